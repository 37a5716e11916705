"""What a model's tokenizer shows to a client: the tokens of a text, and the text of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_serve.errors import InvalidRequest


class ModelTokens:
    """A Hugging Face tokenizer's. `context_length` is the model's, in tokens."""

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        self._tokenizer = tokenizer
        self.context_length = context_length

    def encode(self, text: str, special: bool) -> tuple[int, ...]:
        """Token ids; `special`: with those that the tokenizer puts around every text."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=special))

    def names(self, token_ids: Sequence[int]) -> list[str]:
        """What the vocabulary calls each token."""
        return [str(name) for name in self._tokenizer.convert_ids_to_tokens(list(token_ids))]

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text, special tokens included. Raises InvalidRequest for an id that there is not."""
        check_ids(token_ids, len(self._tokenizer))
        return str(self._tokenizer.decode(list(token_ids)))


def check_ids(token_ids: Sequence[int], vocabulary: int) -> None:
    """Raises InvalidRequest for an id outside `vocabulary`, a number of ids."""
    if token_ids and max(token_ids) >= vocabulary:
        raise InvalidRequest(
            f"tokens: the model has token ids from 0 to {vocabulary - 1}.", param="tokens"
        )
