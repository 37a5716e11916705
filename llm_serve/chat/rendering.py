"""From a conversation to a prompt, through a chat template that may not know all of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
_NINE = re.compile(r"length\s*!=\s*9\b")
"""Mistral's templates refuse ids of calls that have not nine characters."""
_FORBIDDEN = re.compile(r"[^a-zA-Z0-9]")

_TOOLS = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{functions}
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""
"""How Hermes and Qwen are told of functions."""


@dataclass(frozen=True)
class Rendering:
    """Renders conversations through one template.

    A template gets the conversation in the first of these forms that it takes and keeps whole: as
    it is; its system messages merged into one at the begin; that one merged into the first turn of
    the user. In each, the arguments of calls are objects, or else JSON text.
    """

    template: str
    knows_tools: bool

    def render(self, apply: Apply, conversation: Conversation) -> str:
        """The prompt. Raises InvalidRequest where the template takes no form of the messages."""
        from jinja2 import TemplateError

        if reserved := sorted(_RESERVED & conversation.template.keys()):
            raise InvalidRequest(
                f"{', '.join(reserved)} cannot be given to the chat template by a request.",
                param="chat_template_kwargs",
            )
        variables = dict(conversation.template)
        messages = [self._message(message) for message in conversation.messages]
        tools = conversation.tools
        if tools is not None and (tools.choice == "none" or not tools.functions):
            tools = None
        if self.knows_tools:
            messages = self._named(messages)
            if tools is not None:
                variables["tools"] = _for_template(tools)
        else:
            messages = _plainly(messages, tools)
        refusal: Exception | None = None
        for form in _forms(messages):
            try:
                prompt = apply(form, **variables)
            except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
                refusal = refusal or error
                continue
            if _keeps_system(form, prompt):
                return prompt
        if refusal is None:
            refusal = ValueError("it has no place for a system message")
        raise InvalidRequest(f"The chat template refused the messages: {refusal}", param="messages")

    def _message(self, message: Message) -> Message:
        """The message in the words that templates know."""
        message = dict(message)
        if message["role"] == "developer" and "developer" not in self.template:
            message["role"] = "system"
        if message.get("content") is None:
            message["content"] = ""
        if calls := message.get("tool_calls"):
            message["tool_calls"] = [_call(call) for call in calls]
        else:
            message.pop("tool_calls", None)
        return message

    def _named(self, messages: list[Message]) -> list[Message]:
        """Results of tools have the name of what they are a result of, and ids that Mistral's
        templates take."""
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
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            parsed = json.loads(arguments or "{}")
        except ValueError:
            parsed = None
        if isinstance(parsed, dict):
            function["arguments"] = parsed
    return {**call, "type": "function", "function": function}


def _nine(call_id: str) -> str:
    if len(call_id) == 9 and not _FORBIDDEN.search(call_id):
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]


def _for_template(tools: Tools) -> list[dict[str, Any]]:
    """As transformers documents them: every function has parameters, and `strict` is not for the
    model."""
    return [
        {
            "type": "function",
            "function": {
                **{key: value for key, value in function.items() if key != "strict"},
                "parameters": function.get("parameters") or {"type": "object", "properties": {}},
            },
        }
        for function in tools.functions
    ]


def told_of(functions: str) -> str:
    """What the plain system message says of functions, which are JSON texts, one a line."""
    return _TOOLS.format(functions=functions)


def _plainly(messages: list[Message], tools: Tools | None) -> list[Message]:
    """For templates that know no tools: functions in the system message, calls as text of the
    assistant, results as turns of the user."""
    plain: list[Message] = []
    results: list[str] = []

    def answered() -> None:
        if results:
            plain.append({"role": "user", "content": "\n".join(results)})
            results.clear()

    for message in messages:
        if message["role"] == "tool":
            results.append(f"<tool_response>\n{message['content']}\n</tool_response>")
            continue
        answered()
        if calls := message.get("tool_calls"):
            texts = [message["content"]] if message["content"] else []
            texts += [_written(call["function"]) for call in calls]
            message = {key: value for key, value in message.items() if key != "tool_calls"}
            message["content"] = "\n".join(texts)
        plain.append(message)
    answered()
    if tools is None:
        return plain
    functions = "\n".join(json.dumps(t, ensure_ascii=False) for t in _for_template(tools))
    told = told_of(functions)
    if plain and plain[0]["role"] == "system":
        first = plain[0]
        return [{**first, "content": _joined([first["content"], told])}, *plain[1:]]
    return [{"role": "system", "content": told}, *plain]


def _written(function: dict[str, Any]) -> str:
    call = {"name": function["name"], "arguments": function.get("arguments", {})}
    return f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"


def _forms(messages: list[Message]) -> Iterator[list[Message]]:
    """The messages, from what a client sent to what any template takes."""
    systems = [m for m in messages if m["role"] == "system"]
    forms = [messages]
    if systems:
        others = [m for m in messages if m["role"] != "system"]
        text = _joined([m["content"] for m in systems])
        merged = [{"role": "system", "content": text}, *others]
        if len(systems) > 1 or messages[0]["role"] != "system":
            forms.append(merged)
        forms.append(_in_turns([{"role": "user", "content": text}, *others]))
    elif (turns := _in_turns(messages)) != messages:
        forms.append(turns)
    for form in forms:
        yield form
        if any("tool_calls" in message for message in form):
            yield [_with_text(message) for message in form]


def _in_turns(messages: Sequence[Message]) -> list[Message]:
    """Messages of one role that follow each other as one, for templates that want turns."""
    turns: list[Message] = []
    for message in messages:
        last = turns[-1] if turns else None
        plain = message.keys() == {"role", "content"}
        if last and plain and last["role"] == message["role"] != "tool" and len(last) == 2:
            turns[-1] = {**last, "content": _joined([last["content"], message["content"]])}
        else:
            turns.append(message)
    return turns


def _with_text(message: Message) -> Message:
    """The message with the arguments of its calls as JSON text: some templates add them to text."""
    if "tool_calls" not in message:
        return message
    calls = []
    for call in message["tool_calls"]:
        function = dict(call["function"])
        if not isinstance(function.get("arguments"), str):
            function["arguments"] = json.dumps(function.get("arguments", {}), ensure_ascii=False)
        calls.append({**call, "function": function})
    return {**message, "tool_calls": calls}


def _joined(texts: list[str]) -> str:
    return "\n\n".join(text for text in texts if text)


def _keeps_system(form: list[Message], prompt: str) -> bool:
    """Whether the system messages are in the prompt: some templates leave out all but one."""
    return all(m["content"].strip() in prompt for m in form if m["role"] == "system")
