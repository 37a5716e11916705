"""From messages and texts to token ids, and the refusal of prompts that would end an engine.

Every backend that tokenizes with the model's own tokenizer does it in the same way, here.
"""

from __future__ import annotations

from typing import Any

from llm_serve.config import ModelConfig
from llm_serve.errors import InvalidRequest, PromptTooLong
from llm_serve.sampling import Conversation, Prompt, Sampling


def chat_prompt(tokenizer: Any, conversation: Conversation, model_id: str) -> Prompt:
    """The conversation through the model's chat template. Raises InvalidRequest."""
    if not tokenizer.chat_template:
        raise InvalidRequest(
            f"{model_id} has no chat template; use /v1/completions with a prompt.",
            param="messages",
        )
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            list(conversation.messages), add_generation_prompt=True, tokenize=False
        )
    except TemplateError as error:
        raise InvalidRequest(
            f"The chat template of {model_id} refused the messages: {error}", param="messages"
        ) from error
    return Prompt(tuple(tokenizer.encode(text, add_special_tokens=False)))


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
