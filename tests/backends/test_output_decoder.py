"""Text that may be sent: whole characters, no piece of a stop string, however it is cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llm_serve.backends.detokenize import Detokenizer, StopMatcher
from llm_serve.backends.output_decoder import LEAST, OutputDecoder, Vocabulary
from llm_serve.sampling import Sampling

WHOLE = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200
)


def byte_fallback(ids: Sequence[int]) -> str:
    """Ids under 256 are bytes, as in SentencePiece models; others are words with a space before,
    and the first space of a text is dropped."""
    out = bytearray()
    for i in ids:
        out += bytes([i]) if i < 256 else f" w{i}".encode()
    return out.decode(errors="replace").removeprefix(" ")


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the stop string starts that is completed first, by trying every length."""
    for end in range(len(text) + 1):
        starts = [end - len(s) for s in stops if text[:end].endswith(s)]
        if starts:
            return min(starts)
    return None


@given(
    text=st.text("abc", max_size=30),
    stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=4),
    cuts=st.sets(st.integers(0, 30)),
)
@example(text="abc", stops=["b", "abc"], cuts=set())
@example(text="aab", stops=["ab"], cuts={1, 2})
def test_stop_strings_end_the_text_wherever_it_is_cut(
    text: str, stops: list[str], cuts: set[int]
) -> None:
    matcher = StopMatcher(stops)
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    expected = first_stop(text, stops)
    sent = ""
    for start, end in pairwise(edges):
        matched = matcher.push(text[start:end])
        sent += matched.text
        assert text.startswith(sent)
        assert expected is None or len(sent) <= expected
        if matched.stop is not None:
            assert sent == text[:expected]
            assert matched.stop in stops
            assert text[len(sent) :].startswith(matched.stop)
            return
    assert expected is None
    assert sent + matcher.flush() == text


@given(st.lists(st.integers(0, 300), max_size=40))
def test_no_half_characters_with_byte_fallback(ids: list[int]) -> None:
    check_detokenizer(byte_fallback, ids)


@given(st.text(st.sampled_from("aé中日👩‍👩‍👧‍👦🇫🇷e\u0301\u0e33\ufffd \n"), max_size=12))
def test_every_character_arrives_whole(text: str) -> None:
    detokenizer = Detokenizer(lambda ids: bytes(ids).decode(errors="replace"))
    pieces = [detokenizer.push(byte) for byte in text.encode()]
    pieces.append(detokenizer.flush())
    assert "".join(pieces).rstrip("\ufffd") == text.rstrip("\ufffd")
    assert all(piece == "" or piece in text for piece in pieces)


@given(st.lists(st.integers(128, 255), min_size=20, max_size=120))
@example([0x80] * 100)
@example([0xE4] * 100)
@example([0xA0, 0xE4, 0xBD] * 30)
@example([0x41, *[300] * 100, 0x42])
@example([*[0x80] * 40, 300, 0xE4, *[300] * 3, 0xBD, 0xA0])
def test_tokens_that_make_no_character_are_not_held_for_ever(ids: list[int]) -> None:
    """A request can ask for them, by `logit_bias`; the id 300 has no text."""
    longest = 0

    def decode(window: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(window))
        return bytes(i for i in window if i < 256).decode(errors="replace")

    detokenizer = Detokenizer(decode)
    sent = "".join(map(detokenizer.push, ids))
    assert longest <= 40
    sent += detokenizer.flush()
    assert sent.rstrip("\ufffd") == decode(ids).rstrip("\ufffd")


def test_bytes_that_make_no_character_arrive_as_such() -> None:
    detokenizer = Detokenizer(lambda ids: bytes(ids).decode(errors="replace"))
    sent = "".join(map(detokenizer.push, [0x80] * 100))
    assert set(sent) == {"\ufffd"}
    assert 100 - 17 <= len(sent) <= 97


def test_tokens_and_probabilities_that_are_none() -> None:
    tokenizer: Any = SimpleNamespace(
        backend_tokenizer=SimpleNamespace(decoder="ByteLevel"),
        get_added_vocab=dict,
        convert_ids_to_tokens=["\u0120a", "a b"].__getitem__,
    )
    vocabulary = Vocabulary(tokenizer)
    assert [vocabulary.token_bytes(i) for i in range(2)] == [b" a", b"a b"]
    for none in (float("-inf"), float("nan")):
        entry = vocabulary.logprob(0, none, [(0, -1.0), (1, none)])
        assert (entry.logprob, [value for *_, value in entry.top]) == (LEAST, [-1.0, LEAST])


def check_detokenizer(decode: Any, ids: list[int]) -> None:
    detokenizer = Detokenizer(decode)
    sent = ""
    for i in ids:
        piece = detokenizer.push(i)
        assert not piece.endswith("\ufffd")
        sent += piece
    sent += detokenizer.flush()
    assert sent == decode(ids).rstrip("\ufffd")


@pytest.mark.model
class TestWithTheRealTokenizer:
    @WHOLE
    @given(ids=st.lists(st.integers(0, 49151), max_size=30))
    def test_random_tokens(self, tokenizer: Any, ids: list[int]) -> None:
        check_detokenizer(Vocabulary(tokenizer).decode, ids)

    @WHOLE
    @given(text=st.text(max_size=20))
    @example("👩‍👩‍👧‍👦 家族 e\u0301 ᄒ\u1161ᆫ ☃")
    def test_text_survives(self, tokenizer: Any, text: str) -> None:
        ids = tokenizer.encode(text, add_special_tokens=False)
        vocabulary = Vocabulary(tokenizer)
        check_detokenizer(vocabulary.decode, ids)
        if vocabulary.decode(ids) == text:  # this vocabulary lacks a few bytes
            assert b"".join(map(vocabulary.token_bytes, ids)).decode() == text

    @WHOLE
    @given(
        ids=st.lists(st.integers(17, 49151), min_size=1, max_size=12),
        stop=st.integers(0, 30),
        size=st.integers(1, 4),
        step=st.integers(1, 5),
    )
    def test_transcripts_do_not_depend_on_how_tokens_arrive(
        self, tokenizer: Any, ids: list[int], stop: int, size: int, step: int
    ) -> None:
        vocabulary = Vocabulary(tokenizer)
        text = vocabulary.decode(ids)
        stops = (text[stop : stop + size],) if text[stop : stop + size] else ()
        raw = [(-float(i), [token], [-float(i)]) for i, token in enumerate(ids)]

        def run(step: int) -> tuple[str, int, str | None, list[float]]:
            decoder = OutputDecoder(vocabulary, Sampling(stop=stops, logprobs=1), raw, (2,))
            sent, tokens, logprobs = "", 0, []
            for end in (*range(step, len(ids), step), len(ids)):
                delta = decoder.extend(ids[:end], finished=end == len(ids))
                assert delta is not None
                sent += delta.text
                tokens += delta.tokens
                logprobs += [entry.logprob for entry in delta.logprobs]
                if delta.finish_reason:
                    break
            return sent, tokens, decoder.finish_reason, logprobs

        result = run(1)
        assert run(step) == result
        sent, tokens, reason, logprobs = result
        cut = first_stop(text, stops)
        if cut is not None and "\ufffd" not in text:
            assert (sent, reason) == (text[:cut], "stop")
            assert tokens <= len(ids)
        assert logprobs == [-float(i) for i in range(len(logprobs))]
