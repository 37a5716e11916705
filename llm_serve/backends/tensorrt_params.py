"""From our words for sampling to TensorRT-LLM's, and its log-probabilities to ours."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from llm_serve.backends.output_decoder import RawLogprob
from llm_serve.errors import UnsupportedParameter
from llm_serve.sampling import Guide, Sampling


def parameters(
    package: Any, sampling: Sampling, *, room: int, eos: tuple[int, ...], vocabulary: int
) -> Any:
    """The `SamplingParams` of `package`, one by one. None takes the runtime's default, which is
    greedy decoding where top_k and top_p are both None, and the seed 0.

    `room` is how many tokens may come. Raises UnsupportedParameter.
    """
    greedy = sampling.temperature == 0
    return package.SamplingParams(
        end_id=eos[0] if eos else -1,
        pad_id=eos[0] if eos else 0,
        stop_token_ids=list(eos[1:]) or None,
        max_tokens=room,
        ignore_eos=sampling.ignore_eos,
        detokenize=False,
        temperature=None if greedy else sampling.temperature,
        top_k=1 if greedy else sampling.top_k,
        top_p=None if greedy else sampling.top_p,
        min_p=None if greedy else sampling.min_p or None,
        seed=secrets.randbits(63) if sampling.seed is None else sampling.seed % 2**64,
        presence_penalty=sampling.presence_penalty or None,
        frequency_penalty=sampling.frequency_penalty or None,
        embedding_bias=_bias(sampling, vocabulary),
        # 0 asks for none; the sampled token's own is there from 1 on.
        logprobs=None if sampling.logprobs is None else max(1, sampling.logprobs),
        guided_decoding=None if sampling.guide is None else _guided(package, sampling.guide),
    )


def raw_logprob(token: int, entry: Any, wanted: int) -> RawLogprob:
    """The sampled token's, then the likeliest: a dictionary by token, or a bare number."""
    if not isinstance(entry, Mapping):
        return float(entry), [], []
    ranked = sorted(entry.items(), key=lambda pair: -pair[1].logprob)[:wanted]
    return entry[token].logprob, [i for i, _ in ranked], [one.logprob for _, one in ranked]


def _guided(package: Any, guide: Guide) -> Any:
    if guide.after:
        raise UnsupportedParameter(
            f"{guide.param}: TensorRT-LLM holds an answer to a form from its first token on, and "
            f"this one begins with reasoning, up to {guide.after}. Send reasoning_effort: none, if "
            "the model can do without.",
            param=guide.param,
        )
    kinds = {"json_schema": "json", "regex": "regex", "grammar": "grammar"}
    if guide.kind in kinds:
        return package.llmapi.GuidedDecodingParams(**{kinds[guide.kind]: guide.text})
    return package.llmapi.GuidedDecodingParams(json_object=True)


def _bias(sampling: Sampling, vocabulary: int) -> Any:
    """The logit bias as TensorRT-LLM takes it: float32 of shape [vocabulary]."""
    if not sampling.logit_bias:
        return None
    import torch

    bias = torch.zeros(vocabulary, dtype=torch.float32)
    for token, value in sampling.logit_bias:
        bias[token] = value
    return bias
