"""From a body of `POST /v1/responses` to a chat job.

- `parse`: the body, and the request for the replica.
- `conversation`: its items as the turns that a chat template reads.
- `tools`: its tools as functions.
"""

from llm_serve.api.parsing.responses.parse import Asked, check_response, response_job

__all__ = ["Asked", "check_response", "response_job"]
