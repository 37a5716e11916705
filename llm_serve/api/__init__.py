"""The routes of the server, over a `Gateway` to whatever runs the models. Runs in the ingress.

- `app`: the routes, as a Starlette application; `middleware`: what holds for all of them.
- `parsing/`: from the bytes of a body to a request for a replica.
- `schemas/`: the types of bodies and answers, and the table of routes.
- `gateway`: the seam to what runs the models.
- `hold_policy`: how long a request may wait for its model.
- `responses`: what is answered, whole or streamed; `status_stream`: the stream of what changes.
- `stored_responses`: the routes of `/v1/responses`; `response_store`: what is stored, wherever that
  is; `last_event`: the end of a stream, held back until it is stored.
- `views`: what `/healthz` and `/v1/models` show.

Nothing here imports Ray or an engine. The answers themselves are written by the replica, in
`llm_serve.generation`, and pass through as bytes.
"""
