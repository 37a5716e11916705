"""What vLLM's own server is told of a model's tools where the person has not said it: which parser
reads its calls, and a chat template that tells of tools where the model's own does not."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from llm_serve.backends.prompts import chat_format_of
from llm_serve.chat import ChatFormat
from llm_serve.chat.plain import told_of

PLAIN_TOOLS = """\
{%- set plain = namespace(turns=[], results=[], written=[], told=[], function={}) -%}
{%- for message in messages -%}
{%- if message['role'] == 'tool' -%}
{%- set result = '<tool_response>\\n' ~ message['content'] ~ '\\n</tool_response>' -%}
{%- set plain.results = plain.results + [result] -%}
{%- else -%}
{%- if plain.results -%}
{%- set result = {'role': 'user', 'content': plain.results | join('\\n')} -%}
{%- set plain.turns = plain.turns + [result] -%}
{%- set plain.results = [] -%}
{%- endif -%}
{%- if message['tool_calls'] -%}
{%- set plain.written = [message['content']] if message['content'] else [] -%}
{%- for call in message['tool_calls'] -%}
{%- set function = call['function'] -%}
{%- set call = {'name': function['name'], 'arguments': function['arguments']} | tojson -%}
{%- set plain.written = plain.written + ['<tool_call>\\n' ~ call ~ '\\n</tool_call>'] -%}
{%- endfor -%}
{%- set message = {'role': 'assistant', 'content': plain.written | join('\\n')} -%}
{%- endif -%}
{%- set plain.turns = plain.turns + [message] -%}
{%- endif -%}
{%- endfor -%}
{%- if plain.results -%}
{%- set result = {'role': 'user', 'content': plain.results | join('\\n')} -%}
{%- set plain.turns = plain.turns + [result] -%}
{%- endif -%}
{%- if tools -%}
{%- for tool in tools -%}
{%- set plain.function = {} -%}
{%- for key, value in tool['function'].items() if value is not none and key != 'strict' -%}
{%- set plain.function = dict(plain.function, **{key: value}) -%}
{%- endfor -%}
{%- if not plain.function['parameters'] -%}
{%- set none_needed = {'type': 'object', 'properties': {}} -%}
{%- set plain.function = dict(plain.function, parameters=none_needed) -%}
{%- endif -%}
{%- set tool = {'type': 'function', 'function': plain.function} | tojson -%}
{%- set plain.told = plain.told + [tool] -%}
{%- endfor -%}
{%- set told = plain_tools_before ~ plain.told | join('\\n') ~ plain_tools_after -%}
{%- if plain.turns and plain.turns[0]['role'] == 'system' -%}
{%- set first = plain.turns[0]['content'] -%}
{%- set told = first ~ '\\n\\n' ~ told if first else told -%}
{%- set plain.turns = plain.turns[1:] -%}
{%- endif -%}
{%- set plain.turns = [{'role': 'system', 'content': told}] + plain.turns -%}
{%- endif -%}
{%- set messages = plain.turns -%}
{%- set tools = none -%}
"""
"""What stands before a template that knows no tools: it gets the messages as
`llm_serve.chat.rendering` makes them plain."""


def arrange(arguments: Namespace, section: Mapping[str, Any], tokenizer: Any) -> ChatFormat:
    """Fills in what the engine section leaves out. Returns how the model writes calls."""
    from vllm.tool_parsers import ToolParserManager

    template = getattr(tokenizer, "chat_template", None)
    if template is None:  # none, or a tokenizer of Mistral's own, whose parser vLLM knows
        return ChatFormat.of(None)
    form = chat_format_of(tokenizer)
    if section.get("tool_call_parser") or section.get("enable_auto_tool_choice") is False:
        return form
    if form.tool_parser not in ToolParserManager.list_registered():
        return form
    arguments.tool_call_parser = form.tool_parser
    arguments.enable_auto_tool_choice = True
    if isinstance(template, str) and not form.knows_tools and not section.get("chat_template"):
        arguments.chat_template = with_plain_tools(template)
    return form


def with_plain_tools(template: str) -> str:
    """The template, told of tools and of what was done with them in plain messages."""
    before, after = told_of("\0").split("\0")
    texts = {"plain_tools_before": before, "plain_tools_after": after}
    named = "".join(f"{{%- set {name} = {text!r} -%}}" for name, text in texts.items())
    return f"{named}{PLAIN_TOOLS}{template}"
