"""Walks through a guide as an engine takes them, with a random choice in place of a model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

from llguidance import LLMatcher, LLTokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from llm_serve.sampling import Guide

SPECIAL = ("[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "<｜tool▁calls▁begin｜>")
ADDED = ("<tool_call>", "</tool_call>", "<think>", "</think>", "<｜tool▁sep｜>", *SPECIAL)
TOKENS = {text: 257 + place for place, text in enumerate(ADDED)}
"""What the tokenizer of these tests has beside one token for each byte: the usual marks."""
_EOS = 256
_CLOSING = '"}]),>'
_ENDS = ("\n</parameter>\n", "</parameter>\n", "</arg_value>\n")
"""What ends text that has no quotes."""


@cache
def tokenizers() -> tuple[Tokenizer, LLTokenizer]:
    """The same one as an engine and as the compiler of grammars has it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|eos|>"])
    tokenizer.add_tokens([AddedToken(text, special=text in SPECIAL) for text in ADDED])
    return tokenizer, LLTokenizer(tokenizer.to_str(), eos_token=_EOS)


def matcher(guide: Guide) -> LLMatcher:
    """Where a guide stands at the begin. Asserts that it is a grammar."""
    assert guide.kind == "lark"
    found = LLMatcher(tokenizers()[1], LLMatcher.grammar_from_lark(guide.text))
    assert not found.is_error(), f"{found.get_error()}\n{guide.text}"
    return found


def allows(guide: Guide, text: str) -> bool:
    """Whether the guide lets a model write this, token by token, and stop."""
    found = matcher(guide)
    ids = tokenizers()[0].encode(text, add_special_tokens=False).ids
    return found.try_consume_tokens(ids) == len(ids) and found.is_accepting()


def walk(guide: Guide, chance: random.Random, most: int = 1_000) -> str | None:
    """A text that the guide allows, to its end; None for one that has none after `most` tokens.

    The choice is at random, and after a while it prefers what ends values.
    """
    tokenizer, _ = tokenizers()
    found = matcher(guide)
    ids: list[int] = []
    while len(ids) < most:
        allowed = _allowed(found.compute_bitmask())
        assert allowed, f"a dead end after {tokenizer.decode(ids, skip_special_tokens=False)!r}"
        if _EOS in allowed and (len(allowed) == 1 or chance.random() < 0.5):
            return tokenizer.decode(ids, skip_special_tokens=False)
        allowed = [token for token in allowed if token != _EOS]
        closing = [token for token in allowed if tokenizer.id_to_token(token) in _CLOSING]
        likely = min(0.9, 0.1 + len(ids) / 200)
        if len(allowed) > 100 and chance.random() < 0.2:
            end = tokenizer.encode(chance.choice(_ENDS)).ids
            if found.validate_tokens(end) == len(end):
                ids += end
                assert found.consume_tokens(end)
                continue
        ids.append(chance.choice(closing if closing and chance.random() < likely else allowed))
        assert found.consume_token(ids[-1])
    return None


def _allowed(bitmask: Sequence[int]) -> list[int]:
    count = 257 + len(ADDED)
    return [token for token in range(count) if bitmask[token // 8] >> token % 8 & 1]
