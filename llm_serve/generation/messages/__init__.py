"""Answers in Anthropic's Messages: `renderer`, and `signature` for reasoning that comes back."""
