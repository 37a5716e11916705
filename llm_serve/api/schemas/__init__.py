"""What a body may be and what an answer is, as types; `/openapi.json` is generated from them.

- `values`: objects, bounded values, and unions that are told apart by a look.
- `requests`: the bodies of the guide's routes and OpenAI's; `chat/` has the parts of a chat.
- `engine_requests`: those of a model whose engine brings a server of its own.
- `answers`: every JSON object that is generated, one frame of a stream included; `states` has the
  others, errors too.
- `embeddings`: the body and the answer of `/v1/embeddings`.
- `operations`: the table of routes, which of these each takes and answers.
- `openapi`: the document.
"""
