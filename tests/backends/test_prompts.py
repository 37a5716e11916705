"""What backends tell the room for chats of a tokenizer, and what comes back of it."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from llm_serve.backends.prompts import chat_format_of, chat_prompt
from llm_serve.errors import InvalidRequest, LoadFailed
from llm_serve.sampling import Conversation, Tools
from tests.chat.test_templates import QWEN3, shows
from tests.chat.walks import TOKENS, allows, tokenizers

USER = {"role": "user", "content": "Hi"}
TOOLS = Tools(({"name": "now"},), "required")


def tokenizer(template: Any) -> PreTrainedTokenizerFast:
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizers()[0], eos_token="<|eos|>")
    made.chat_template = template
    return made


def test_marks_are_the_tokens_that_the_tokenizer_has() -> None:
    form = chat_format_of(tokenizer(shows("[TOOL_CALLS][ARGS]")))
    assert form.tool_parser == "mistral"
    assert form.special_tokens, "they are left out of decoded text otherwise"
    guide = form.guide(TOOLS, None, reasoning=False)
    assert guide is not None
    assert f"<[{TOKENS['[ARGS]']}]>" in guide.text
    assert allows(guide, "[TOOL_CALLS]now[ARGS]{}")
    assert not chat_format_of(tokenizer(QWEN3)).special_tokens


def test_a_tokenizer_with_several_templates_uses_that_for_tools() -> None:
    several = tokenizer({"default": "{{ messages[0]['content'] }}", "tool_use": QWEN3})
    assert chat_format_of(several).knows_tools
    plain = tokenizer({"default": "{{ messages[0]['content'] }}"})
    assert not chat_format_of(plain).knows_tools
    with pytest.raises(LoadFailed, match="tool_call_parser"):
        chat_format_of(plain, "mistral")


def test_a_prompt_says_whether_the_model_is_to_reason() -> None:
    thinks = tokenizer(QWEN3 + "{% if enable_thinking %}<think>\n{% endif %}")
    form = chat_format_of(thinks)
    for wanted in (True, False):
        conversation = Conversation((USER,), template={"enable_thinking": wanted})
        prompt = chat_prompt(thinks, form, conversation, "model")
        assert prompt.reasoning is wanted
    text = "<|im_start|>user\nHi<|im_end|>\n<think>\n\n</think>"
    assert thinks.decode(prompt.token_ids) == text


def test_without_a_template_there_is_no_chat() -> None:
    none = tokenizer(None)
    with pytest.raises(InvalidRequest, match="model has no chat template"):
        chat_prompt(none, chat_format_of(none), Conversation((USER,)), "model")
