"""An OpenAI-compatible LLM server on Ray Serve for more models than accelerators."""

__version__ = "0.1.0"
