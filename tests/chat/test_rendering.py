"""Conversations through templates that know more or less of what is in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llm_serve.chat import ChatFormat
from llm_serve.errors import InvalidRequest
from llm_serve.sampling import Conversation, Tools
from tests.chat.answers import parse

CHATML = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
FIRST_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}<system>{{ messages[0]['content'] | trim }}\n"
    "{% endif %}{% for m in messages if m['role'] != 'system' %}"
    "<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
)
ALTERNATING = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('No system here') }}"
    "{% endif %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}<{{ m['role'] }}>{{ m['content'] }}\n"
    "{% endfor %}"
)
HERMES = (
    "{% if tools %}<tools>{% for t in tools %}{{ t | tojson }}\n{% endfor %}</tools>\n{% endif %}"
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% for c in m['tool_calls'] %}"
    '<tool_call>\n{"name": "{{ c[\'function\'][\'name\'] }}", "arguments": '
    "{{ c['function']['arguments'] | tojson }}}\n</tool_call>{% endfor %}{{ '\\n' }}{% endfor %}"
)
TEXT_ARGUMENTS = (
    "{% for t in tools or [] %}{% endfor %}<｜tool▁sep｜>{% for m in messages %}{{ m['content'] }}"
    "{% for c in m['tool_calls'] %}{{ c['id'] + c['function']['arguments'] }}"
    "{% endfor %}{% endfor %}"
)
NINE = (
    "{% for t in tools %}{% endfor %}[TOOL_CALLS]{% for m in messages %}"
    "{% for c in m['tool_calls'] %}{% if c['id'] | length != 9 %}{{ raise_exception('nine') }}"
    "{% endif %}<{{ c['id'] }}>{% endfor %}"
    "{% if m['role'] == 'tool' %}<{{ m['tool_call_id'] }}><{{ m['name'] }}>{% endif %}{% endfor %}"
)
SINGLE = HERMES.replace(
    "{% for c in",
    "{% if m['tool_calls'] | length > 1 %}{{ raise_exception('one call') }}{% endif %}{% for c in",
    1,
)
NOW = {"name": "now", "description": "The time", "strict": True}
TOOLS = Tools((NOW,))


def _raise(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)


def applied(template: str) -> Callable[..., str]:
    """What transformers makes of a template, in short."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    environment.globals["raise_exception"] = _raise
    compiled = environment.from_string(template)

    def apply(messages: list[dict[str, Any]], **variables: Any) -> str:
        return compiled.render(messages=messages, **variables)

    return apply


def render(
    template: str,
    *messages: dict[str, Any],
    tools: Tools | None = None,
    variables: dict[str, Any] | None = None,
) -> str:
    conversation = Conversation(messages, tools, variables or {})
    return ChatFormat.of(template).render(applied(template), conversation)


def said(role: str, content: str | None) -> dict[str, Any]:
    return {"role": role, "content": content}


def called(*calls: tuple[str, str, str], content: str | None = None) -> dict[str, Any]:
    made = [
        {"id": i, "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, name, arguments in calls
    ]
    return {"role": "assistant", "content": content, "tool_calls": made}


USER = said("user", "Hi")
RESULT = {"role": "tool", "content": "12:00", "tool_call_id": "call_1"}
CALLED = called(("call_1", "now", '{"zone": "é"}'))


def test_a_developer_is_the_system_where_the_template_has_none() -> None:
    assert render(CHATML, said("developer", "Be brief."), USER) == "<system>Be brief.\n<user>Hi\n"
    knows = CHATML + "{% if messages[0]['role'] == 'developer' %}{% endif %}"
    assert render(knows, said("developer", "A"), USER) == "<developer>A\n<user>Hi\n"


def test_system_messages_are_merged_where_the_template_would_lose_one() -> None:
    messages = said("system", "A"), USER, said("system", "B")
    assert render(CHATML, *messages) == "<system>A\n<user>Hi\n<system>B\n"
    assert render(FIRST_SYSTEM, *messages) == "<system>A\n\nB\n<user>Hi\n"
    assert render(FIRST_SYSTEM, said("system", " A "), USER) == "<system>A\n<user>Hi\n"
    assert render(ALTERNATING, *messages) == "<user>A\n\nB\n\nHi\n"
    nowhere = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"
    assert render(nowhere, said("system", "A"), USER) == "A\n\nHi"


def test_turns_that_follow_each_other_are_one_where_roles_must_alternate() -> None:
    assert render(ALTERNATING, USER, USER) == "<user>Hi\n\nHi\n"
    assert render(CHATML, USER, USER) == "<user>Hi\n<user>Hi\n"


def test_a_late_developer_is_not_lost() -> None:
    first = (
        "{% if messages[0]['role'] in ['system', 'developer'] %}{{ messages[0]['content'] }}\n"
        "{% endif %}{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"
    )
    assert render(first, USER, said("developer", "A")) == "A\nHi"


def test_content_is_a_list_where_the_template_takes_nothing_else() -> None:
    template = (
        "{% for m in messages %}<{{ m['role'] }}>{% for part in m['content'] %}"
        "{% if part['type'] == 'image' %}<image>{% elif part['type'] == 'text' %}"
        "{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    assert render(template, said("system", "A"), USER) == "<system>A<user>Hi"


def test_a_template_may_say_it_in_words_of_its_own() -> None:
    loud = CHATML.replace("m['content']", "m['content'] | upper") + "{# image ['type'] #}"
    assert render(loud, USER) == "<user>HI\n"
    assert render(loud, said("system", "Be brief."), USER) == "<user>BE BRIEF.\n\nHI\n"


def test_what_no_form_of_it_pleases_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Roles must alternate") as refusal:
        render(ALTERNATING, said("assistant", "Hi"))
    assert refusal.value.param == "messages"


def test_a_template_gets_tools_and_calls_as_transformers_documents_them() -> None:
    prompt = render(HERMES, USER, CALLED, RESULT, tools=TOOLS)
    tool = {
        "type": "function",
        "function": {
            "name": "now",
            "description": "The time",
            "parameters": {"type": "object", "properties": {}},
        },
    }
    assert prompt == (
        f"<tools>{json.dumps(tool)}\n</tools>\n<user>Hi\n"
        '<assistant><tool_call>\n{"name": "now", "arguments": {"zone": "é"}}\n</tool_call>\n'
        "<tool>12:00\n"
    )
    for tools in (None, Tools(()), Tools((NOW,), "none")):
        assert render(HERMES, USER, tools=tools) == "<user>Hi\n"


def test_arguments_are_text_where_the_template_adds_them_to_text() -> None:
    assert '"zone": "é"' in render(TEXT_ARGUMENTS, USER, CALLED)
    broken = called(("call_1", "now", '{"zone'))
    assert 'call_1{"zone' in render(TEXT_ARGUMENTS, USER, broken)
    assert '"arguments": "{\\"zone"' in render(HERMES, USER, broken)


def test_ids_of_calls_are_short_where_the_template_wants_it() -> None:
    prompt = render(NINE, USER, CALLED, RESULT, called(("abcdefghi", "now", "")))
    call, result, name, other = prompt.removeprefix("[TOOL_CALLS]<").rstrip(">").split("><")
    assert call == result != "call_1"
    assert (name, other) == ("now", "abcdefghi")


def test_calls_side_by_side_are_one_after_the_other_where_the_template_has_but_one() -> None:
    two = called(("a", "now", "{}"), ("b", "now", '{"zone": 1}'), content="So")
    results = ({**RESULT, "tool_call_id": i, "content": i.upper()} for i in ("a", "b"))
    first = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    second = '<tool_call>\n{"name": "now", "arguments": {"zone": 1}}\n</tool_call>'
    assert render(SINGLE, USER, two, *results) == (
        f"<user>Hi\n<assistant>So{first}\n<tool>A\n<assistant>{second}\n<tool>B\n"
    )


def test_a_template_that_knows_no_tools_has_them_plainly() -> None:
    two = called(("call_1", "now", "{}"), ("call_2", "now", '{"zone": 1}'), content="I look.")
    prompt = render(CHATML, said("system", "A"), USER, two, RESULT, RESULT, tools=TOOLS)
    system, rest = prompt.split("<user>", 1)
    assert system.startswith("<system>A\n\n# Tools")
    assert '{"type": "function", "function": {"name": "now"' in system
    first = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    second = '<tool_call>\n{"name": "now", "arguments": {"zone": 1}}\n</tool_call>'
    response = "<tool_response>\n12:00\n</tool_response>"
    assert rest == (f"Hi\n<assistant>I look.\n{first}\n{second}\n<user>{response}\n{response}\n")
    assert render(CHATML, USER, tools=TOOLS).startswith("<system># Tools")
    assert render(CHATML, USER, tools=Tools((NOW,), "none")) == "<user>Hi\n"


def test_what_was_rendered_is_read_again() -> None:
    """A call in a prompt is written as the model is to write it."""
    for template in (CHATML, HERMES):
        prompt = render(template, USER, CALLED)
        answer = prompt.split("<assistant>")[1]
        got = parse(ChatFormat.of(template), TOOLS, answer)
        assert [(n, json.loads(a)) for n, a in got.calls] == [("now", {"zone": "é"})]


@pytest.mark.parametrize("template", [CHATML, HERMES])
@pytest.mark.parametrize("depth", [300, 100_000])
def test_arguments_may_nest_as_deeply_as_they_like(template: str, depth: int) -> None:
    arguments = '{"a":' * depth + "1" + "}" * depth
    prompt = render(template, USER, called(("a", "now", arguments)))
    assert prompt.count("a") >= depth


def test_what_nests_too_deeply_to_be_rendered_is_refused() -> None:
    def apply(messages: list[dict[str, Any]]) -> str:
        return apply(messages)

    with pytest.raises(InvalidRequest, match="nest too deeply") as refusal:
        ChatFormat.of(CHATML).render(apply, Conversation((USER,)))
    assert refusal.value.param == "messages"


def test_more_variables() -> None:
    template = "{{ messages[0]['content'] }}{{ enable_thinking }}"
    assert render(template, USER, variables={"enable_thinking": False}) == "HiFalse"
    with pytest.raises(InvalidRequest, match="chat_template") as refusal:
        render(template, USER, variables={"chat_template": "{{ x }}"})
    assert refusal.value.param == "chat_template_kwargs"


def test_messages_are_left_as_they_were() -> None:
    before = json.dumps([CALLED, RESULT])
    for template in (CHATML, HERMES, NINE, TEXT_ARGUMENTS):
        render(template, USER, CALLED, RESULT, tools=TOOLS)
    assert json.dumps([CALLED, RESULT]) == before
