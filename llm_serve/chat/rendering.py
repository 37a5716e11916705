"""From a conversation to a prompt, through a chat template that may not know all of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from llm_serve.chat.forms import forms, in_parts, keeps
from llm_serve.chat.plain import plainly
from llm_serve.errors import InvalidRequest
from llm_serve.sampling import Conversation, Tools

Message = dict[str, Any]
Apply = Callable[..., str]

_RESERVED = frozenset(
    {"conversation", "messages", "tools", "chat_template", "add_generation_prompt"}
    | {"continue_final_message", "tokenize", "padding", "truncation", "max_length"}
    | {"return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs"}
)
"""Parameters of `apply_chat_template` that are no variables of a template."""
_ENDINGS: dict[str, dict[str, bool]] = {
    "begun": {},
    "continued": {"continue_final_message": True, "add_generation_prompt": False},
    "none": {"add_generation_prompt": False},
}
"""What transformers is told, whose `apply` begins an answer unasked."""
_NINE = re.compile(r"length\s*(?:!=|<)\s*9\b")
"""Mistral's templates refuse ids of calls that have not nine letters or digits."""
_DEVELOPER = re.compile(r"""['"]developer['"]""")
_SEES = re.compile(r"""image.*['"]type['"]|['"]type['"].*image""", re.DOTALL)
"""Templates of models that see images may take content as a list of parts alone."""
_FORBIDDEN = re.compile(r"[^a-zA-Z0-9]")
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True)
class Rendering:
    """Renders conversations through one template: in the first of their forms that it takes, and
    that keeps what was said."""

    template: str
    knows_tools: bool

    def render(self, apply: Apply, conversation: Conversation) -> str:
        """The prompt. Raises InvalidRequest where the template takes the messages in no form."""
        if reserved := sorted(_RESERVED & conversation.template.keys()):
            raise InvalidRequest(
                f"A request cannot give {', '.join(reserved)} to the chat template.",
                param="chat_template_kwargs",
            )
        variables = {**conversation.template, **_ENDINGS[conversation.ending]}
        messages = [self._message(message) for message in conversation.messages]
        tools = _for_template(conversation.tools)
        if self.knows_tools:
            messages = self._named(messages)
            if tools:
                variables["tools"] = tools
        else:
            messages = plainly(messages, tools)
        return self._applied(partial(apply, **variables), messages)

    def _applied(self, apply: Apply, messages: list[Message]) -> str:
        from jinja2 import TemplateError

        refusal: Exception | None = None
        prompt = None
        tried = list(forms(messages))
        for form in [*tried, *(map(in_parts, tried) if _SEES.search(self.template) else ())]:
            try:
                rendered = apply(form)
            except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
                refusal = refusal or error
                continue
            if keeps(messages, rendered):
                return rendered
            if form in tried:
                prompt = rendered
        if prompt is not None:  # the template says it in words of its own
            return prompt
        raise InvalidRequest(f"The chat template refused the messages: {refusal}", param="messages")

    def _message(self, message: Message) -> Message:
        """The message in the words that templates know."""
        message = dict(message)
        if message["role"] == "developer" and not _DEVELOPER.search(self.template):
            message["role"] = "system"
        if message.get("content") is None:
            message["content"] = ""
        if calls := message.pop("tool_calls", None):
            message["tool_calls"] = [_call(call) for call in calls]
        return message

    def _named(self, messages: list[Message]) -> list[Message]:
        """Results have the name of the function that they come from; ids are as Mistral's
        templates want them."""
        names: dict[str, str] = {}
        short = _NINE.search(self.template) is not None
        for message in messages:
            for call in message.get("tool_calls", ()):
                names[call.get("id", "")] = call["function"]["name"]
                if short and "id" in call:
                    call["id"] = _nine(call["id"])
            if message["role"] == "tool" and "tool_call_id" in message:
                if name := names.get(message["tool_call_id"]):
                    message.setdefault("name", name)
                if short:
                    message["tool_call_id"] = _nine(message["tool_call_id"])
        return messages


def _call(call: dict[str, Any]) -> dict[str, Any]:
    """The call with its arguments as an object, as templates are written for."""
    function = dict(call["function"])
    if isinstance(arguments := function.get("arguments"), str):
        try:
            parsed = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, dict):
            function["arguments"] = parsed
    return {**call, "type": "function", "function": function}


def _nine(call_id: str) -> str:
    if len(call_id) == 9 and not _FORBIDDEN.search(call_id):
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]


def _for_template(tools: Tools | None) -> list[dict[str, Any]]:
    """The functions as transformers documents them: each has parameters, and `strict` is not for
    the model. Those that may not be called are not shown: a call of one would be taken for text."""
    if tools is None or tools.choice == "none":
        return []
    return [
        {
            "type": "function",
            "function": {
                **{key: value for key, value in function.items() if key != "strict"},
                "parameters": function.get("parameters") or _NO_PARAMETERS,
            },
        }
        for function in tools.functions
    ]
