"""What a request may be and what an answer is: pydantic models, jobs, the OpenAPI document."""
