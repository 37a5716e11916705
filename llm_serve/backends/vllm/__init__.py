"""The vLLM backend. `backend` is the engine behind our seam, `arguments` what an `engine` section
may hold, `inner_server` vLLM's own API server, called in this process.

Nothing here imports vllm before a model is loaded.
"""
