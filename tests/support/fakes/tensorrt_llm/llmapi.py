"""The names of `tensorrt_llm.llmapi` that are used; the package sets them."""
