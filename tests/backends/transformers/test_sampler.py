"""Every sampling option against its definition, on logits made by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from transformers.generation.logits_process import (  # noqa: E402
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from llm_serve.backends.transformers.sampler import (  # noqa: E402
    CANDIDATES,
    State,
    choose_tokens,
    sample,
)
from llm_serve.sampling import Sampling  # noqa: E402

VOCABULARY = 4096


@pytest.fixture
def logits() -> Any:
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(3)) * 2


def draw(logits: Any, count: int = 1, **sampling: Any) -> list[int]:
    """So many tokens of one sequence that has these logits at every step."""
    sequence = State(Sampling(**{"seed": 0, **sampling}))
    return choose_tokens([sequence] * count, logits.expand(count, -1)).tolist()


def nucleus(logits: Any, top_p: float, temperature: float = 1.0) -> set[int]:
    """The definition: the fewest most likely tokens whose probabilities sum up to top_p."""
    probabilities = (logits / temperature).softmax(-1).double()
    total, chosen = 0.0, set()
    for i in probabilities.argsort(descending=True).tolist():
        if total >= top_p:
            break
        total += float(probabilities[i])
        chosen.add(i)
    return chosen


def test_a_greedy_step_is_left_alone(logits: Any) -> None:
    greedy = State(Sampling(temperature=0))
    rows = torch.stack([logits, logits.flip(0)])
    before = rows.clone()
    assert sample([greedy, greedy], rows) == rows.argmax(-1).tolist()
    assert torch.equal(rows, before)


@pytest.mark.parametrize(
    "options",
    [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-9}, {"temperature": 0}],
)
def test_narrow_sampling_is_greedy(logits: Any, options: dict[str, Any]) -> None:
    assert set(draw(logits, 20, **options)) == {int(logits.argmax())}


@pytest.mark.parametrize("top_k", [2, 5, CANDIDATES + 1, VOCABULARY, 10 * VOCABULARY])
def test_top_k_draws_from_the_k_likeliest(logits: Any, top_k: int) -> None:
    allowed = set(logits.topk(min(top_k, VOCABULARY)).indices.tolist())
    drawn = set(draw(logits * 0.01, 400, top_k=top_k))
    assert drawn <= allowed
    assert len(drawn) == top_k if top_k <= 5 else len(drawn) > 100


@pytest.mark.parametrize(
    "options", [{}, {"top_p": 0.7}, {"min_p": 0.3}, {"top_p": 0.7, "min_p": 0.3}]
)
@pytest.mark.parametrize("top_k", [1, 2, CANDIDATES, CANDIDATES + 1, 400, 598, 599, 600, 2400])
def test_every_top_k_is_that_of_transformers(top_k: int, options: dict[str, float]) -> None:
    many, vocabulary = 5000, 600
    flat = torch.randn(vocabulary, generator=torch.Generator().manual_seed(1)) * 0.4
    expected = flat[None]
    for warper in (
        TopKLogitsWarper(top_k),
        TopPLogitsWarper(options.get("top_p", 1.0)),
        MinPLogitsWarper(options.get("min_p", 0.0)),
    ):
        expected = warper(torch.empty(0), expected)
    sequence = State(Sampling(top_k=top_k, **options))  # type: ignore[arg-type]
    # Uniform numbers without chance: each token is drawn as often as its probability says.
    sequence.uniform = iter((torch.arange(many) + 0.5).div(many).tolist()).__next__
    drawn = choose_tokens([sequence] * many, flat.expand(many, -1)).bincount(minlength=vocabulary)
    assert (drawn - expected.softmax(-1)[0] * many).abs().max() < 2


@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_top_p_draws_from_the_nucleus(logits: Any, top_p: float, temperature: float) -> None:
    allowed = nucleus(logits, top_p, temperature)
    drawn = set(draw(logits, 500, top_p=top_p, temperature=temperature))
    assert drawn <= allowed
    assert len(drawn) > min(len(allowed), 100) / 2


def test_top_p_looks_further_where_the_likeliest_are_not_enough() -> None:
    flat = torch.linspace(0, 0.001, VOCABULARY)
    drawn = set(draw(flat, 2000, top_p=0.5))
    assert drawn <= nucleus(flat, 0.5)
    assert len(drawn) > 4 * CANDIDATES


def test_min_p_cuts_below_a_share_of_the_likeliest(logits: Any) -> None:
    probabilities = logits.softmax(-1)
    allowed = set((probabilities >= 0.2 * probabilities.max()).nonzero().flatten().tolist())
    for more in ({}, {"top_p": 0.99999}, {"top_k": VOCABULARY}):
        assert set(draw(logits, 1000, min_p=0.2, **more)) == allowed


@pytest.mark.parametrize("options", [{}, {"top_p": 0.999999}, {"top_k": VOCABULARY - 1}])
def test_frequencies_follow_the_probabilities(options: dict[str, Any]) -> None:
    logits = torch.full((VOCABULARY,), -30.0)
    logits[:4] = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()
    counts = Counter(draw(logits, 4000, **options))
    assert [counts[i] / 4000 for i in range(4)] == pytest.approx([0.5, 0.25, 0.15, 0.1], abs=0.03)


def test_temperature_sharpens(logits: Any) -> None:
    best = int(logits.argmax())
    cool, warm = (Counter(draw(logits, 500, temperature=t))[best] for t in (0.3, 1.5))
    assert cool > 2 * warm


def test_a_seed_repeats_and_another_differs(logits: Any) -> None:
    for options in ({}, {"top_p": 0.9}):
        assert draw(logits, 30, seed=1, **options) == draw(logits, 30, seed=1, **options)
        assert draw(logits, 30, seed=1, **options) != draw(logits, 30, seed=2, **options)
        assert draw(logits, 30, seed=None, **options) != draw(logits, 30, seed=None, **options)


def test_a_seed_means_the_same_among_others(logits: Any) -> None:
    rows = torch.stack([logits, logits.flip(0), logits * 0.001, logits * 2])
    options = [{"top_p": 0.9}, {}, {"top_p": 0.95, "top_k": 900}, {"min_p": 0.1}]
    alone = [
        draw(row, 10, seed=i, **o) for i, (row, o) in enumerate(zip(rows, options, strict=True))
    ]
    sequences = [State(Sampling(seed=i, **o)) for i, o in enumerate(options)]
    together = [choose_tokens(sequences, rows).tolist() for _ in range(10)]
    assert [list(column) for column in zip(*together, strict=True)] == alone


def test_penalties_follow_the_formula(logits: Any) -> None:
    base = logits[None]
    sequence = State(Sampling(temperature=0, frequency_penalty=0.7, presence_penalty=0.4))
    counts: Counter[int] = Counter()
    for _ in range(30):
        expected = base[0].clone()
        for token, count in counts.items():
            expected[token] -= 0.7 * count + 0.4
        (token,) = sample([sequence], base.clone())
        assert token == int(expected.argmax())
        counts[token] += 1
    assert max(counts.values()) > 1


def test_a_negative_penalty_repeats(logits: Any) -> None:
    sequence = State(Sampling(temperature=0, presence_penalty=-2.0))
    assert len({sample([sequence], logits[None].clone())[0] for _ in range(5)}) == 1


def test_bias_forces_and_bans(logits: Any) -> None:
    best = int(logits.argmax())
    forced = State(Sampling(temperature=1, seed=0, logit_bias=((7, 100.0),)))
    banned = State(Sampling(temperature=0, logit_bias=((best, -100.0),)))
    tokens = sample([forced, banned], torch.stack([logits, logits]))
    assert tokens == [7, int(logits.topk(2).indices[1])]


def test_logprobs_are_the_models_own(logits: Any) -> None:
    expected = logits.log_softmax(-1)
    odd = Sampling(
        temperature=0.3, seed=5, logprobs=3, frequency_penalty=1, logit_bias=((7, 100.0),)
    )
    sequences = [State(Sampling(temperature=0, logprobs=0)), State(odd)]
    tokens = sample(sequences, torch.stack([logits, logits]))
    (first,), (second,) = (s.logprobs for s in sequences)
    assert first[0] == pytest.approx(float(expected.max()))
    assert first[1:] == ([], [])
    assert second[0] == pytest.approx(float(expected[tokens[1]]))
    assert tokens[1] == 7
    assert second[1] == expected.topk(3).indices.tolist()
    assert second[2] == pytest.approx(expected.topk(3).values.tolist())


@pytest.mark.parametrize(
    "options", [{}, {"top_p": 0.9}, {"top_k": 5}, {"top_k": 500}, {"min_p": 0.1}]
)
@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_cost_nobody_else_a_token(
    logits: Any, options: dict[str, Any], odd: float
) -> None:
    """As models in float16 give, when a prompt leads them out of range."""
    broken = torch.full_like(logits, odd)
    asked = [State(Sampling(seed=7, logprobs=2, **options)) for _ in range(2)]
    alone = sample([State(Sampling(seed=7, logprobs=2, **options))], logits[None].clone())
    tokens = sample(asked, torch.stack([broken, logits]))
    assert tokens[1:] == alone
    assert 0 <= tokens[0] < VOCABULARY
