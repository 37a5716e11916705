"""From the bytes of a request's body to a job for a replica, or to a 400. Runs in the ingress.

- `body`: reads the bytes, within limits of size and time.
- `outline`: counts the structure in them while they arrive, so that parsing stays short.
- `parse`: the JSON, the schema of the model that is asked, and the job.
- `refusal`: what is wrong with a body, in one sentence about one field.
"""
