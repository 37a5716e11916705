"""The vLLM backend.

`backend` is the engine behind our protocol, `arguments` says what an `engine` section may hold,
`inner_server` calls vLLM's own API server in this process, `refusals` tells a wrong request from a
defect, `startup_errors` finds out why an engine did not start, and `private` holds what vLLM does
not document.

Plain chats and texts are rendered by `llm_serve.generation.execution` from the engine's tokens:
detokenizing, stop strings and frames are ours, which costs less a token than vLLM's server. All
other requests go to that server's ASGI app, without a socket, under our queue, cancellation and
errors.

Nothing here imports vllm before a model is loaded.
"""
