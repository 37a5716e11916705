"""What vLLM's server is told of tools where the configuration says nothing: a parser by the model's
chat template, and of a template that knows no tools, one that does."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llm_serve.backends.vllm import tools
from llm_serve.chat import ChatFormat
from llm_serve.sampling import Conversation, Tools
from tests.support.client import Api, user

pytestmark = pytest.mark.vllm

F = {"name": "f", "description": "Ä 'quote'.", "parameters": {"type": "object", "properties": {}}}
FUNCTIONS = (F, {"name": "g"})
_MEMBERS = ("name", "description", "parameters", "strict")
DUMPED = [
    {"type": "function", "function": {key: f.get(key) for key in _MEMBERS}} for f in FUNCTIONS
]
"""As vLLM's server gives them to a template."""
KNOWS = "{{ tools }}{% for call in messages[0].tool_calls %}<tool_call>{{ call }}{% endfor %}"
LLAMA = (
    '{% if tools %}Environment: ipython {"name": function name, "parameters": dictionary}'
    "{{ tools }}<|python_tag|>{{ messages[0].tool_calls }}{% endif %}"
)


def call(arguments: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {"id": "c", "type": "function", "function": function}


HISTORY = [
    {"role": "assistant", "content": "", "tool_calls": [call({"a": "x"}), call({})]},
    {"role": "tool", "tool_call_id": "c", "content": "one"},
    {"role": "tool", "tool_call_id": "c", "content": "two"},
    {"role": "assistant", "content": "So.", "tool_calls": [call({})]},
    {"role": "tool", "tool_call_id": "c", "content": "three"},
]


@pytest.mark.parametrize("functions", [(), FUNCTIONS])
@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be brief."}]])
@pytest.mark.parametrize("history", [[], HISTORY, [*HISTORY, *user("And?")]])
def test_tools_are_told_of_in_the_same_words_as_by_us(
    folder: Path, functions: Any, system: list[Any], history: list[Any]
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    apply = partial(tokenizer.apply_chat_template, add_generation_prompt=True, tokenize=False)
    turns = [*system, *user("Hi."), *history]
    ours = ChatFormat.of(tokenizer.chat_template).render(
        apply, Conversation(tuple(turns), Tools(functions) if functions else None)
    )
    template = tools.with_plain_tools(tokenizer.chat_template)
    assert apply(turns, tools=DUMPED if functions else None, chat_template=template) == ours


def arranged(template: str | None, **section: Any) -> Namespace:
    arguments = Namespace(
        tool_call_parser=section.get("tool_call_parser"),
        enable_auto_tool_choice=section.get("enable_auto_tool_choice", False),
        chat_template=section.get("chat_template"),
    )
    tokenizer = SimpleNamespace(chat_template=template, added_tokens_decoder={})
    tools.arrange(arguments, section, tokenizer)
    return arguments


@pytest.mark.parametrize(
    ("template", "parser"),
    [("{{ messages }}", "hermes"), (KNOWS, "hermes"), (LLAMA, "llama3_json")],
)
def test_a_parser_is_chosen_by_the_template(template: str, parser: str) -> None:
    arguments = arranged(template)
    assert arguments.tool_call_parser == parser
    assert arguments.enable_auto_tool_choice is True
    told = arguments.chat_template is not None
    assert told == (template == "{{ messages }}")
    assert not told or arguments.chat_template.endswith(template)


@pytest.mark.parametrize(
    "section",
    [
        {"tool_call_parser": "kimi_k2"},
        {"tool_call_parser": "llama3_json", "enable_auto_tool_choice": True},
        {"enable_auto_tool_choice": False},
    ],
)
def test_what_the_person_says_stays(section: dict[str, Any]) -> None:
    arguments = arranged("{{ messages }}", **section, chat_template="{{ mine }}")
    assert arguments.tool_call_parser == section.get("tool_call_parser")
    assert arguments.enable_auto_tool_choice == section.get("enable_auto_tool_choice", False)
    assert arguments.chat_template == "{{ mine }}"


def test_a_tokenizer_without_a_template_is_left_alone() -> None:
    assert arranged(None) == Namespace(
        tool_call_parser=None, enable_auto_tool_choice=False, chat_template=None
    )


def test_the_model_is_told_of_its_tools(api: Api) -> None:
    asked = {"messages": user("Hi."), "tools": [{"type": "function", "function": F}]}
    tokens = api.client.post("/tokenize", json=asked).json()["tokens"]
    prompt = api.client.post("/detokenize", json={"tokens": tokens}).json()["prompt"]
    assert "# Tools" in prompt
    assert "Ä 'quote'." in prompt
    details = api.get("/v1/models/smol").json()["engine_details"]
    assert (details["tool_rendering"], details["tool_call_parser"]) == ("plain", "hermes")


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_a_choice_is_the_models(api: Api, choice: str) -> None:
    """It is too small to call anything by itself, and answers."""
    asked = {"tools": DUMPED, "tool_choice": choice, "max_tokens": 8, "temperature": 0}
    (answer,) = api.chat("Say hello.", **asked).json()["choices"]
    assert answer["message"]["content"]
    assert api.chat_stream("Say hello.", **asked).text() == answer["message"]["content"]
