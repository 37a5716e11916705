"""From messages and texts to token ids, and the refusal of prompts that would end an engine.

Every backend that tokenizes with the model's own tokenizer does it in the same way, here.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from llm_serve.chat import ChatFormat
from llm_serve.config import ModelConfig
from llm_serve.errors import InvalidRequest, PromptTooLong
from llm_serve.sampling import Conversation, Prompt, Sampling


def chat_format_of(
    tokenizer: Any,
    tool_call_parser: str | None = None,
    reasoning_parser: str | None = None,
    *,
    grammars: bool = True,
) -> ChatFormat:
    """The chat format of the tokenizer's model. Raises LoadFailed for an unknown parser.

    `grammars`: whether the engine takes guides of the kind `lark`.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):  # several, by name; transformers takes this one with tools
        template = template.get("tool_use") or template.get("default")
    added = {token.content: (at, token) for at, token in tokenizer.added_tokens_decoder.items()}
    return ChatFormat.of(
        template,
        tool_call_parser,
        reasoning_parser,
        tokens={text: at for text, (at, _) in added.items()},
        special={text for text, (_, token) in added.items() if token.special},
        grammars=grammars,
    )


def chat_details(chat_format: ChatFormat) -> dict[str, str]:
    """What `/v1/models/{id}` says of a loaded model's chat format."""
    return {
        "tool_rendering": "template" if chat_format.knows_tools else "plain",
        "tool_call_parser": chat_format.tool_parser,
        "reasoning": "yes" if chat_format.reasoning else "no",
    }


def chat_prompt(
    tokenizer: Any, chat_format: ChatFormat, conversation: Conversation, model_id: str
) -> Prompt:
    """The conversation through the model's chat template. Raises InvalidRequest."""
    if not tokenizer.chat_template:
        raise InvalidRequest(
            f"{model_id} has no chat template; use /v1/completions with a prompt.",
            param="messages",
        )
    apply = partial(tokenizer.apply_chat_template, add_generation_prompt=True, tokenize=False)
    text = chat_format.render(apply, conversation)
    ids = tokenizer.encode(text, add_special_tokens=False)
    return Prompt(tuple(ids), chat_format.within_reasoning(text))


def text_prompt(tokenizer: Any, text: str) -> Prompt:
    """The text with the tokenizer's special tokens. Raises InvalidRequest where nothing is left."""
    ids = tokenizer.encode(text)
    if not ids and tokenizer.bos_token_id is not None:
        ids = [tokenizer.bos_token_id]
    if not ids:
        raise InvalidRequest("The prompt is empty.", param="prompt")
    return Prompt(tuple(ids))


def room_for(
    prompt: Prompt, sampling: Sampling, model: ModelConfig, *, context: int, vocabulary: int
) -> int:
    """Tokens that may be generated: what the context (in tokens) leaves, at most.

    Raises PromptTooLong, and InvalidRequest for an id outside `vocabulary` (a number of ids): that
    would end some engines, not the request.
    """
    ids = prompt.token_ids
    room = context - len(ids)
    if room < 1:
        raise PromptTooLong(
            f"The prompt has {len(ids)} tokens; with {model.id} prompt and answer together may "
            f"have {context}. Shorten the prompt."
        )
    last = vocabulary - 1
    if not ids or min(ids) < 0 or max(ids) > last:
        raise InvalidRequest(
            f"The prompt must be one or more token ids from 0 to {last}.", param="prompt"
        )
    if any(token > last for token, _ in sampling.logit_bias):
        raise InvalidRequest(
            f"logit_bias must name token ids from 0 to {last}.", param="logit_bias"
        )
    return min(sampling.max_tokens or model.defaults.max_tokens, room)
