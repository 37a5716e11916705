"""What a guide leaves of the logits, in batches in which only some have one."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llm_serve.backends.transformers.guides import constraint as module  # noqa: E402
from llm_serve.backends.transformers.guides import trial  # noqa: E402
from llm_serve.backends.transformers.guides.constraint import Constraint, restrict  # noqa: E402
from llm_serve.backends.transformers.sampler import State, sample  # noqa: E402
from llm_serve.errors import InternalError, InvalidRequest  # noqa: E402
from llm_serve.sampling import Sampling  # noqa: E402

from .conftest import EOS, LOGITS, OTHER_EOS  # noqa: E402

ENDS = {EOS, OTHER_EOS}


@pytest.fixture
def logits() -> Any:
    return torch.randn(LOGITS, generator=torch.Generator().manual_seed(3)) * 2


def begun(vocabulary: Any, regex: str, ignore_eos: bool = False) -> Constraint:
    matcher = trial.compiled(vocabulary, trial.grammar_of("regex", regex, "", None))
    return Constraint(matcher, LOGITS, (EOS, OTHER_EOS), "guided_regex", ignore_eos=ignore_eos)


def lark(vocabulary: Any, text: str) -> Constraint:
    matcher = trial.compiled(vocabulary, trial.grammar_of("lark", text, "", None))
    return Constraint(matcher, LOGITS, (EOS, OTHER_EOS), "guided_grammar", ignore_eos=True)


def allowed(constraint: Constraint) -> set[int]:
    rows = torch.zeros(1, LOGITS)
    restrict(rows, [0], [constraint])
    return set(rows[0].isfinite().nonzero().flatten().tolist())


def token(vocabulary: Any, character: str) -> int:
    (found,) = vocabulary.greedy_tokenize(character)
    return int(found)


def test_only_what_may_follow_is_left(vocabulary: Any) -> None:
    a, b = token(vocabulary, "a"), token(vocabulary, "b")
    constraint = begun(vocabulary, "a+b?")
    assert allowed(constraint) == {a}
    constraint.accept(a)
    assert not constraint.ended
    assert allowed(constraint) == {a, b} | ENDS
    constraint.accept(b)
    assert constraint.ended
    assert constraint.error is None


def test_any_of_the_ends_ends_it_where_the_guide_may_end(vocabulary: Any) -> None:
    a = token(vocabulary, "a")
    for end in ENDS:
        constraint = begun(vocabulary, "a+")
        allowed(constraint)
        constraint.accept(a)
        allowed(constraint)
        constraint.accept(end)
        assert constraint.ended


def test_without_the_end_it_goes_on_to_where_nothing_follows(vocabulary: Any) -> None:
    a = token(vocabulary, "a")
    constraint = begun(vocabulary, "a{1,3}", ignore_eos=True)
    for _ in range(3):
        assert not constraint.ended
        assert allowed(constraint) == {a}
        constraint.accept(a)
    assert constraint.ended


def test_rows_without_a_guide_are_as_they_were(vocabulary: Any, logits: Any) -> None:
    rows = torch.stack([logits, logits.flip(0), logits * 2])
    before = rows.clone()
    restrict(rows, [1], [begun(vocabulary, "[ab]")])
    assert torch.equal(rows[[0, 2]], before[[0, 2]])
    kept = rows[1].isfinite()
    assert torch.equal(rows[1][kept], before[1][kept])
    assert int(kept.sum()) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0},
        {},
        {"top_k": 1},
        {"top_p": 0.1},
        {"min_p": 0.9},
        {"frequency_penalty": 2.0, "presence_penalty": -2.0},
        {"logit_bias": ((7, 100.0), (EOS, 100.0))},
        {"logprobs": 2},
    ],
)
def test_every_option_draws_from_what_is_left(
    vocabulary: Any, logits: Any, options: dict[str, Any]
) -> None:
    """And among others; a seed gives what it gives alone."""
    wanted = {token(vocabulary, c) for c in "abc"}
    sampling = Sampling(**{"seed": 5, **options})

    def run(others: int) -> list[int]:
        guided = State(sampling, begun(vocabulary, "[abc]{20}"))
        plain = [State(Sampling(seed=i)) for i in range(others)]
        return [
            sample([guided, *plain], logits.repeat(others + 1, 1).clone())[0] for _ in range(20)
        ]

    alone = run(0)
    assert set(alone) <= wanted
    assert run(3) == alone


def test_penalties_count_and_bias_weighs_within_the_guide(vocabulary: Any, logits: Any) -> None:
    a, b = token(vocabulary, "a"), token(vocabulary, "b")
    flat = torch.zeros(1, LOGITS)
    flat[0, a] = 1.0
    penalized = State(Sampling(temperature=0, frequency_penalty=0.75), begun(vocabulary, "[ab]{9}"))
    assert [sample([penalized], flat.clone())[0] for _ in range(4)] == [a, a, b, a]
    biased = State(Sampling(temperature=0, logit_bias=((b, 9.0),)), begun(vocabulary, "[ab]{9}"))
    assert sample([biased], flat.clone()) == [b]


def test_log_probabilities_are_those_before_the_guide(vocabulary: Any, logits: Any) -> None:
    state = State(Sampling(temperature=0, logprobs=3), begun(vocabulary, "a"))
    (chosen,) = sample([state], logits[None].clone())
    expected = logits.log_softmax(-1)
    ((logprob, ids, values),) = state.logprobs
    assert logprob == pytest.approx(float(expected[chosen]))
    assert ids == expected.topk(3).indices.tolist()
    assert values == pytest.approx(expected.topk(3).values.tolist())


def test_an_error_stays_with_its_row(vocabulary: Any, logits: Any) -> None:
    a = token(vocabulary, "a")
    broken, fine = begun(vocabulary, "a+"), begun(vocabulary, "a+")
    rows = torch.stack([torch.full_like(logits, float("nan")), logits])
    rows[0, a] = -float("inf")
    states = [State(Sampling(temperature=0), one) for one in (broken, fine)]
    tokens = sample(states, rows)
    assert tokens[1] == a
    assert fine.error is None
    assert isinstance(broken.error, InternalError)
    sample(states, torch.stack([logits, logits]))  # it takes part until the engine takes it out
    assert fine.error is None


def test_a_guide_that_takes_ever_longer_is_stopped(vocabulary: Any, logits: Any) -> None:
    """Each text of this grammar can be read in ever more ways."""
    constraint = lark(vocabulary, 'start: s\ns: s s | "a" | "b" | "ab"')
    state = State(Sampling(temperature=1, seed=1), constraint)
    for _ in range(3000):
        sample([state], logits[None].clone())
        if constraint.error is not None:
            break
    assert isinstance(constraint.error, InvalidRequest)
    assert constraint.error.param == "guided_grammar"
    assert "too complex" in constraint.error.message


def test_ordinary_guides_are_far_from_the_limit(
    vocabulary: Any, logits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ALLOWED_S_PER_TOKEN", module.ALLOWED_S_PER_TOKEN / 4)
    guide = trial.grammar_of("json_object", "", "", None)
    constraint = Constraint(trial.compiled(vocabulary, guide), LOGITS, (EOS,), "response_format")
    state = State(Sampling(temperature=1, seed=1), constraint)
    for _ in range(2000):
        sample([state], logits[None].clone())
        if constraint.ended:
            break
    assert constraint.error is None
