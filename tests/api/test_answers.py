"""The shape of answers, streamed and whole, chat and text."""

from __future__ import annotations

import pytest

from tests.support.client import Api
from tests.support.inprocess import echo, serving

WORDS = "one two three four"
ODD = [
    "😀 🏳️‍🌈 👨‍👩‍👧‍👦",
    "你好，世界 再见",
    'quote " backslash \\ newline \n tab \t',
    "data: [DONE]\n\n",
    "\u2028\u0000",
]


def test_a_chat_answer(api: Api) -> None:
    answer = api.chat(WORDS).json()
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": WORDS, "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]


def test_a_text_answer(api: Api) -> None:
    answer = api.complete(WORDS).json()
    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert answer["choices"] == [
        {"index": 0, "text": WORDS, "logprobs": None, "finish_reason": "stop"}
    ]


def test_a_chat_stream_has_the_role_first_and_the_reason_last(api: Api) -> None:
    stream = api.chat_stream(WORDS)
    assert stream.done
    assert stream.text() == WORDS
    assert stream.finish() == "stop"
    first, *rest = [chunk["choices"][0]["delta"] for chunk in stream.chunks]
    assert first["role"] == "assistant"
    assert not [delta for delta in rest if "role" in delta]
    assert not [chunk for chunk in stream.chunks if "usage" in chunk]
    assert {chunk["object"] for chunk in stream.chunks} == {"chat.completion.chunk"}


def test_a_text_stream(api: Api) -> None:
    stream = api.complete_stream(WORDS, max_tokens=3)
    assert stream.text() == "one two three "
    assert stream.finish() == "length"
    assert {chunk["object"] for chunk in stream.chunks} == {"text_completion"}


@pytest.mark.parametrize("kind", ["chat_stream", "complete_stream"])
def test_include_usage_adds_one_last_chunk_without_choices(api: Api, kind: str) -> None:
    stream = getattr(api, kind)(WORDS, stream_options={"include_usage": True}, n=2)
    *before, last = stream.chunks
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 12}
    assert all(chunk["choices"] and "usage" not in chunk for chunk in before)


@pytest.mark.parametrize("n", [2, 5, 128])
def test_n_choices_each_whole(api: Api, n: int) -> None:
    answer = api.chat(WORDS, n=n).json()
    assert [c["index"] for c in answer["choices"]] == list(range(n))
    assert {c["message"]["content"] for c in answer["choices"]} == {WORDS}
    assert answer["usage"]["completion_tokens"] == 4 * n
    stream = api.chat_stream(WORDS, n=n)
    for index in range(n):
        assert stream.text(index) == WORDS
        assert stream.finish(index) == "stop"


def test_several_prompts_times_n(api: Api) -> None:
    answer = api.complete(["a b", "c"], n=2).json()
    assert [c["text"] for c in answer["choices"]] == ["a b", "a b", "c", "c"]
    assert [c["index"] for c in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"]["prompt_tokens"] == 3
    stream = api.complete_stream(["a b", "c"], n=2)
    assert [stream.text(index) for index in range(4)] == ["a b", "a b", "c", "c"]


@pytest.mark.parametrize("text", ODD)
def test_odd_characters_come_back_whole(api: Api, text: str) -> None:
    assert api.chat(text).json()["choices"][0]["message"]["content"] == text
    assert api.chat_stream(text).text() == text
    assert api.complete_stream(text).text() == text


def test_the_default_max_tokens_is_the_models() -> None:
    with serving(echo(defaults={"max_tokens": 3})) as api:
        assert api.chat(WORDS).json()["usage"]["completion_tokens"] == 3
        assert api.chat(WORDS, max_tokens=4).json()["usage"]["completion_tokens"] == 4


def test_stop_ends_the_answer_before_the_stop_string(api: Api) -> None:
    choice = api.chat(WORDS, stop="three").json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two ", "stop")
    stream = api.chat_stream(WORDS, stop=["never", "wo"])
    assert (stream.text(), stream.finish()) == ("one t", "stop")


def test_ignore_eos_goes_on_to_max_tokens(api: Api) -> None:
    answer = api.chat("a ", max_tokens=5, ignore_eos=True).json()
    assert answer["choices"][0]["message"]["content"] == "a a a a a "
    assert answer["choices"][0]["finish_reason"] == "length"


def test_chat_logprobs_name_every_token(api: Api) -> None:
    whole = api.chat("é 你", logprobs=True).json()["choices"][0]["logprobs"]
    streamed = [
        token
        for chunk in api.chat_stream("é 你", logprobs=True).chunks
        for token in chunk["choices"][0]["logprobs"]["content"]
    ]
    assert whole["content"] == streamed
    assert [bytes(t["bytes"]).decode() for t in streamed] == [t["token"] for t in streamed]
    assert [t["token"] for t in streamed] == ["é ", "你"]


def test_text_logprobs_have_offsets_over_the_whole_stream(api: Api) -> None:
    whole = api.complete(WORDS, logprobs=0).json()["choices"][0]["logprobs"]
    chunks = api.complete_stream(WORDS, logprobs=0).chunks
    assert whole["tokens"] == ["one ", "two ", "three ", "four"]
    assert whole["text_offset"] == [0, 4, 8, 14]
    for field in ("tokens", "text_offset", "token_logprobs"):
        streamed = [one for c in chunks for one in c["choices"][0]["logprobs"][field]]
        assert streamed == whole[field]
