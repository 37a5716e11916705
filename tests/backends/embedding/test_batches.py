"""Which inputs are computed together: each once, within bounds, and every request in turn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llm_serve.backends.transformers.embedding.batches import Batches

MOST = 64
LENGTHS = st.lists(st.integers(1, 100), min_size=1, max_size=30)


@given(st.lists(LENGTHS, min_size=1, max_size=6))
def test_each_input_comes_once_in_batches_of_bounded_size(requests: list[list[int]]) -> None:
    batches: Batches[int] = Batches(MOST)
    for number, lengths in enumerate(requests):
        batches.add(number, lengths)
    seen = []
    while batches:
        batch = batches.next()
        lengths = [requests[request][number] for request, number in batch]
        padded = max(lengths) * len(lengths)
        assert padded <= MOST or len(batch) == 1
        assert sum(lengths) * 2 > padded, "most of it is padding"
        seen += batch
    assert sorted(seen) == [
        (r, n) for r, lengths in enumerate(requests) for n in range(len(lengths))
    ]
    assert batches.next() == []


@given(st.lists(LENGTHS, min_size=1, max_size=6), st.integers(1, 100))
def test_one_input_waits_for_one_batch_of_each_other_request(
    requests: list[list[int]], length: int
) -> None:
    batches: Batches[int] = Batches(MOST)
    for number, lengths in enumerate(requests):
        batches.add(number, lengths * 3)
    batches.next()
    batches.add(99, [length])
    waited = [batches.next() for _ in range(len(requests) + 1)]
    assert any((99, 0) in batch for batch in waited)


@given(st.lists(LENGTHS, min_size=2, max_size=6), st.integers(0, 5), st.integers(0, 3))
def test_what_left_is_computed_no_more(requests: list[list[int]], leaving: int, after: int) -> None:
    leaving %= len(requests)
    batches: Batches[int] = Batches(MOST)
    for number, lengths in enumerate(requests):
        batches.add(number, lengths)
    seen = [pair for _ in range(after) for pair in batches.next()]
    batches.remove(leaving)
    while batches:
        batch = batches.next()
        assert leaving not in {request for request, _ in batch}
        seen += batch
    others = [(r, n) for r, ns in enumerate(requests) if r != leaving for n in range(len(ns))]
    assert sorted(pair for pair in seen if pair[0] != leaving) == others


def test_requests_of_like_lengths_share_a_batch() -> None:
    batches: Batches[str] = Batches(MOST)
    batches.add("a", [16, 3])
    batches.add("b", [15, 16])
    batches.add("c", [9])
    assert sorted(batches.next()) == [("a", 0), ("b", 0), ("b", 1), ("c", 0)]
    assert batches.next() == [("a", 1)]
