"""One request from a prompt to bytes. Runs in a model's replica.

- `request`: what crosses from the ingress, which makes it (`llm_serve.api.parsing`).
- `execution`: prompts in, deltas of every sequence out, coalesced.
- `encoding`: its prompts as tokens.
- `embeddings`: vectors of its prompts, as JSON.
- `render`: deltas to OpenAI's JSON and server-sent events; other dialects have a renderer each.
- `responses`, of `response_items`: deltas to OpenAI's Responses; `responses_by_engine` reads the
  answers of an engine's own server, `tool_names` tells tools and functions apart.
- `messages`: the same to Anthropic's.
- `tokenizing`: tokens as the answer.
"""
