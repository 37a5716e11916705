"""The echo backend's answers, as other tests script them."""

from __future__ import annotations

from typing import Any

from llm_serve.backends.echo import EchoBackend
from llm_serve.config import EchoEngine, ModelConfig
from llm_serve.sampling import Conversation, Sampling

ANSWERS = ('<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>', "It is\n noon.")


async def _answer(backend: EchoBackend, *messages: dict[str, Any]) -> str:
    prompt = backend.encode_chat(Conversation(messages))
    return "".join([delta.text async for delta in backend.generate(prompt, Sampling())])


async def test_each_turn_of_the_assistant_has_its_text() -> None:
    backend = EchoBackend(
        ModelConfig(id="echo", backend="echo", engine=EchoEngine(answers=ANSWERS))
    )
    question = {"role": "user", "content": "What time?"}
    first = {"role": "assistant", "content": None, "tool_calls": []}
    result = {"role": "tool", "content": "12:00", "tool_call_id": "call_1"}
    assert await _answer(backend, question) == ANSWERS[0]
    assert await _answer(backend, question, first, result) == ANSWERS[1]
    assert await _answer(backend, question, first, result, first, question) == "What time?"
