"""The store of responses: its bound, whose responses go first, and the last event of a stream."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_serve.api.last_event import LastEvent
from llm_serve.api.response_store import ResponseStore, StoredResponse

KIB = 1024


def entry(owner: str = "", size: int = 0, previous: str | None = None) -> StoredResponse:
    """One that counts so many KiB more than an empty one, which counts one."""
    return StoredResponse(owner, b"x" * (size * KIB), b"", previous)


def test_the_least_recently_used_one_goes_first() -> None:
    store = ResponseStore(3 * KIB)
    for name in "abc":
        store.keep(name, entry())
    assert store.response("", "a") == b""
    store.keep("d", entry())
    assert [store.response("", name) is not None for name in "abcd"] == [True, False, True, True]
    assert store.bytes == 3 * KIB


def test_who_has_most_gives_way() -> None:
    store = ResponseStore(4 * KIB)
    store.keep("mine", entry("me"))
    for number in range(50):
        store.keep(f"theirs-{number}", entry("they"))
    assert store.response("me", "mine") is not None
    assert store.response("they", "theirs-49") is not None
    assert store.response("they", "theirs-46") is None


def test_what_is_too_large_is_not_kept_and_drives_out_nothing() -> None:
    store = ResponseStore(3 * KIB)
    store.keep("a", entry())
    store.keep("b", entry(size=3))
    assert store.response("", "b") is None
    assert store.response("", "a") is not None
    store.limit(0)
    assert (store.bytes, store.response("", "a")) == (0, None)


def test_a_conversation_is_all_its_turns_or_nothing() -> None:
    store = ResponseStore(9 * KIB)
    store.keep("a", StoredResponse("me", b"", b"[1]"))
    store.keep("b", StoredResponse("me", b"", b"[2]", "a"))
    store.keep("c", StoredResponse("me", b"", b"[3]", "b"))
    assert store.recall("me", "c").conversation == (b"[1]", b"[2]", b"[3]")
    assert store.recall("me", None, ["a", "x"]).turns == {"a": b"[1]"}
    assert store.recall("me", None).conversation == ()
    assert store.recall("they", "c", ["a"]).conversation is None
    assert store.recall("they", None, ["a"]).turns == {}
    assert not store.forget("they", "b")
    assert store.forget("me", "b")
    assert not store.forget("me", "b")
    assert store.recall("me", "c").conversation is None
    assert store.recall("me", "a").conversation == (b"[1]",)


def test_a_conversation_is_used_as_a_whole() -> None:
    store = ResponseStore(3 * KIB)
    store.keep("a", entry())
    store.keep("other", entry())
    store.keep("b", entry(previous="a"))
    store.recall("", "b")
    store.keep("c", entry(previous="b"))
    assert store.response("", "other") is None
    assert store.recall("", "c").conversation == (b"", b"", b"")


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["keep", "forget", "recall"]),
            st.sampled_from(["", "me", "they"]),
            st.sampled_from("abcdef"),
            st.integers(0, 5),
        )
    )
)
def test_the_bound_holds_whatever_is_done(steps: list[tuple[str, str, str, int]]) -> None:
    store = ResponseStore(8 * KIB)
    for what, owner, name, size in steps:
        if what == "keep":
            store.keep(name, entry(owner, size))
            assert (store.response(owner, name) is not None) == (size < 8)
        elif what == "forget":
            store.forget(owner, name)
            assert store.response(owner, name) is None
        else:
            store.recall(owner, name)
        kept = [store.response(o, n) for o in ("", "me", "they") for n in "abcdef"]
        assert store.bytes == sum(len(r) + KIB for r in kept if r is not None) <= store.max_bytes


@pytest.mark.parametrize("name", ["completed", "incomplete", "failed"])
@settings(deadline=None)
@given(st.data())
def test_the_last_event_is_held_back_wherever_messages_are_cut(
    name: str, data: st.DataObject
) -> None:
    said = json.dumps({"delta": "\nevent: response.completed\ndata: {}\n\n"})
    last = json.dumps({"response": {"id": "resp_1"}})
    events = f"event: response.output_text.delta\ndata: {said}\n\n" * 2
    whole = f"{events}event: response.{name}\ndata: {last}\n\n".encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=9)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    end = LastEvent()
    sent = b"".join(end.feed(piece) for piece in pieces)
    if name == "failed":
        assert (sent, end.data(), end.rest()) == (whole, None, b"")
        return
    assert sent + end.rest() == whole
    assert not sent.endswith(b"\n\n") or len(sent) == len(events)
    assert last.encode() not in sent
    assert end.data() == last.encode()
