"""Conversations to prompts, and answers to reasoning, text and calls, in the words of each model.

Models were taught different ways of writing that they reason or call a function; `ChatFormat` has
one model's. Pure: it knows templates and text, no tokenizer and no engine.
"""

from llm_serve.chat.answer import AnswerParser
from llm_serve.chat.chat_format import ChatFormat

__all__ = ["AnswerParser", "ChatFormat"]
