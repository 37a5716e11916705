"""From the texts of a request to what the model reads, or to the refusal of what it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_serve.backends.transformers.embedding.checkpoint import Checkpoint
from llm_serve.backends.transformers.embedding.engine import Input
from llm_serve.errors import InvalidRequest, PromptTooLong


class Reader:
    """Of one model. Threads may use it together."""

    def __init__(self, checkpoint: Checkpoint, model_id: str) -> None:
        self._checkpoint = checkpoint
        self._model_id = model_id
        # The first call settles the tokenizer: from here on none changes it.
        (prompt,) = self._encode([""])
        ends = bool(prompt) and prompt[-1] in checkpoint.tokenizer.all_special_ids
        self._prompt_tokens = len(prompt) - ends if checkpoint.prompt else 0

    def inputs(self, inputs: Sequence[str | tuple[int, ...]]) -> list[Input]:
        """To be embedded: texts behind the checkpoint's prompt, token ids as they are. Raises
        PromptTooLong and InvalidRequest, about `input`."""
        texts = iter(self._encode([one for one in inputs if isinstance(one, str)]))
        read = [
            Input(next(texts), self._prompt_tokens) if isinstance(one, str) else Input(one)
            for one in inputs
        ]
        for number, one in enumerate(read):
            name = f"input[{number}]" if len(read) > 1 else "input"
            self._check_length(one, f"{name} has", "input")
            self._check_ids(one, name)
        return read

    def pairs(self, query: str, documents: Sequence[str]) -> list[Input]:
        """The query with each document, to be scored. Raises PromptTooLong."""
        encoded = self._tokenize([query] * len(documents), list(documents))
        types = encoded.get("token_type_ids") or [()] * len(documents)
        read = [Input(ids, types=own) for ids, own in zip(encoded["input_ids"], types, strict=True)]
        for number, one in enumerate(read):
            name = f"query and documents[{number}] together have"
            self._check_length(one, name, "documents")
        return read

    def query_and_documents(self, query: str, documents: Sequence[str]) -> list[Input]:
        """The query, then the documents, each to be embedded. Raises PromptTooLong."""
        read = [Input(ids, self._prompt_tokens) for ids in self._encode([query, *documents])]
        self._check_length(read[0], "query has", "query")
        for number, one in enumerate(read[1:]):
            self._check_length(one, f"documents[{number}] has", "documents")
        return read

    def _encode(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        prompt = self._checkpoint.prompt
        ids: list[list[int]] = self._tokenize([prompt + text for text in texts])["input_ids"]
        return ids

    def _tokenize(self, *columns: list[str]) -> Any:
        if self._checkpoint.lower_case:
            columns = tuple([text.lower() for text in texts] for texts in columns)
        return self._checkpoint.tokenizer(
            *columns, padding=False, truncation=False, return_attention_mask=False, verbose=False
        )

    def _check_length(self, one: Input, subject: str, param: str) -> None:
        """`subject` is what has so many tokens, as the beginning of a sentence."""
        longest = self._checkpoint.longest
        if len(one.token_ids) > longest:
            raise PromptTooLong(
                f"{subject} {len(one.token_ids)} tokens and {self._model_id} takes {longest} at "
                "once; split it, or shorten it.",
                param=param,
            )

    def _check_ids(self, one: Input, name: str) -> None:
        ids, last = one.token_ids, self._checkpoint.vocabulary - 1
        if not ids:
            raise InvalidRequest(f"{name} has no tokens; send a longer text.", param="input")
        if min(ids) < 0 or max(ids) > last:
            raise InvalidRequest(
                f"{name} has token ids that {self._model_id} does not know; its own are from 0 to "
                f"{last}. Send texts where the ids come from another model's tokenizer.",
                param="input",
            )
