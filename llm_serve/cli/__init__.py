"""The command `llm-serve`: its verbs, the terminal, and the client of a running server."""
