"""From the bytes of a body to a `GenerationRequest`, or to a 400. Runs in the ingress.

- `body`: reads the bytes, within limits of size and time.
- `outline`: counts the structure in them while they arrive, so that parsing stays short.
- `parse`: the JSON, the schema of the model that is asked, and what its replica is to do.
- `embeddings`: the same for `/v1/embeddings`.
- `allowlist`: which model is asked; `by_engine`: what the engine's own server is to answer.
- `messages`: Anthropic's routes; `tokens`: those that show tokens.
- `explain`: what is wrong with a body, in one sentence about one field.
"""
