"""The vLLM backend. `backend` is the engine behind our seam, `arguments` what an `engine` section
may hold, `inner_server` vLLM's own API server, called in this process, and `reasons` why its
processes did not start.

What is plain is rendered by `llm_serve.generation.execution` from the engine's tokens:
detokenizing, stop strings and frames are ours, which costs less a token than vLLM's server. All
else goes to that server's ASGI app, in this process and without a socket, under our queue,
cancellation and errors.

Nothing here imports vllm before a model is loaded.
"""
