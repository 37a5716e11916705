"""What the text of a chat template shows of its model. These have the marks of real ones."""

from __future__ import annotations

from typing import get_args

import pytest

from llm_serve.chat import ChatFormat
from llm_serve.chat.formats import TOOL_PARSERS
from llm_serve.chat.reasoning import REASONING_PARSERS
from llm_serve.config.engines import ReasoningParser, ToolCallParser
from llm_serve.errors import LoadFailed

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>\\n' }}{% endfor %}"
)
QWEN3 = (
    "{%- if tools %}# Tools <tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>"
    ' <tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>'
    "{% endif %}{# tool_calls #}"
    + CHATML
    + "{%- if enable_thinking is false %}<think>\n\n</think>{% endif %}"
)
LLAMA3 = (
    "{%- if not tools is defined %}{%- set tools = none %}{%- endif %}{% if tools is not none %}"
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and '
    "its value}.{% for t in tools %}{{ t | tojson }}{% endfor %}<|python_tag|>{% endif %}"
    "{% for m in messages %}{% if 'tool_calls' in m %}{% endif %}{% endfor %}"
)


def shows(text: str) -> str:
    return "{% for tool in tools %}{{ tool }}{% endfor %}{{ messages[0].tool_calls }}" + text


@pytest.mark.parametrize(
    ("template", "parser", "knows"),
    [
        (None, "hermes", False),
        (CHATML, "hermes", False),
        (CHATML + "<tool_call>", "hermes", False),
        (QWEN3, "hermes", True),
        (LLAMA3, "llama3_json", True),
        (shows("[TOOL_CALLS]"), "mistral", True),
        (shows("<tool_call>\n<function=f>\n<parameter=p>"), "qwen3_coder", True),
        (shows("<seed:tool_call>\n<function=f>\n<parameter=p>"), "seed_oss", True),
        (shows("<tool_call>f\n<arg_key>k</arg_key>"), "glm45", True),
        (shows("MUST put it in the format of [func_name1(params_name1=..."), "pythonic", True),
        (shows("<｜tool▁sep｜>\n```json"), "deepseek_v3", True),
        (shows("<｜tool▁sep｜>"), "deepseek_v31", True),
        (shows("<|tool_call|>"), "granite", True),
        (shows("<|tool_call_start|>[f()]"), "lfm2", True),
        (shows("functools[]"), "phi4_mini_json", True),
        (shows("Action: ..."), "hermes", False),
        (
            "{% generation %}{{ tools }}{% endgeneration %}<tool_call>{# tool_calls #}",
            "hermes",
            True,
        ),
        ("{% for t in tools %}{% break %}{% endfor %}{# tool_calls #}<tool_call>", "hermes", True),
        ("{% for t in tools %}{{ t }}{% endfor %}<tool_call>", "hermes", False),
        ("{% no such tag %}{{ tools }}<tool_call>", "hermes", False),
    ],
)
def test_the_format_of_calls(template: str | None, parser: str, knows: bool) -> None:
    found = ChatFormat.of(template)
    assert (found.tool_parser, found.knows_tools) == (parser, knows)


def test_reasoning() -> None:
    assert ChatFormat.of(QWEN3).reasoning
    assert not ChatFormat.of(LLAMA3).reasoning
    assert ChatFormat.of(LLAMA3, reasoning_parser="deepseek_r1").reasoning
    assert ChatFormat.of(QWEN3).within_reasoning("<|im_start|>assistant\n<think>\n")
    assert not ChatFormat.of(QWEN3).within_reasoning("<think>\n\n</think>\n\n")
    assert not ChatFormat.of(LLAMA3).within_reasoning("<think>")


def test_the_configuration_has_the_last_word() -> None:
    assert ChatFormat.of(LLAMA3, "pythonic").tool_parser == "pythonic"
    assert ChatFormat.of(shows("Action:"), "hermes").knows_tools
    with pytest.raises(LoadFailed, match="hermes, jamba, lfm2"):
        ChatFormat.of(LLAMA3, "nonsense")
    with pytest.raises(LoadFailed, match="deepseek_r1"):
        ChatFormat.of(LLAMA3, reasoning_parser="nonsense")
    with pytest.raises(LoadFailed, match="leave tool_call_parser out"):
        ChatFormat.of(CHATML, "pythonic")


def test_the_configuration_knows_the_same_names() -> None:
    assert set(get_args(ToolCallParser)) == TOOL_PARSERS.keys()
    assert set(get_args(ReasoningParser)) == REASONING_PARSERS.keys()


def test_special_tokens_are_asked_for_where_they_mark_something() -> None:
    tokens = {"<|python_tag|>": 5, "<tool_call>": 6}
    assert ChatFormat.of(LLAMA3, tokens=tokens, special={"<|python_tag|>"}).special_tokens
    assert not ChatFormat.of(QWEN3, tokens=tokens, special={"<|python_tag|>"}).special_tokens
    assert not ChatFormat.of(LLAMA3, tokens=tokens).special_tokens
