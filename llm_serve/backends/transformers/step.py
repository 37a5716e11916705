"""One forward pass: the tokens of all its sequences in a row, and the logits after each last one.

What the layers have in common, where tokens are in the cache and who sees whom, is made once per
step and window, and used by every layer.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Sequence as Parts

import torch
from transformers import PreTrainedModel

from llm_serve.backends.transformers.attention import Buffers, Call, Decode, Prefill
from llm_serve.backends.transformers.kv_memory import KvMemory
from llm_serve.backends.transformers.pages import PAGE_TOKENS, pages_for
from llm_serve.backends.transformers.step_planner import StepPart


class Runner:
    """A model with the memory for its keys and values."""

    def __init__(self, model: PreTrainedModel, memory: KvMemory) -> None:
        self._model = model
        self._memory = memory
        self._buffers = Buffers()
        self._picks = "logits_to_keep" in inspect.signature(model.forward).parameters

    def run(self, parts: Parts[StepPart]) -> torch.Tensor:
        """The logits after the last token of every part, `[parts, vocabulary]` in float32, the
        caller's to change."""
        device = self._model.device
        ids: list[int] = []
        positions: list[int] = []
        last: list[int] = []
        for part in parts:
            ids += part.sequence.tokens[part.start : part.end]
            positions += range(part.start, part.end)
            last.append(len(ids) - 1)
        rows = torch.tensor(last, device=device)
        step = Step(parts, self._memory, self._buffers, device)
        logits = self._model(
            input_ids=torch.tensor([ids], device=device),
            position_ids=torch.tensor([positions], device=device),
            use_cache=False,
            paged_step=step,
            **({"logits_to_keep": rows} if self._picks else {}),
        ).logits[0]
        chosen: torch.Tensor = logits if self._picks else logits[rows]
        return chosen.float()


class Step:
    """One forward pass over the cache: the `Attends` that it brings along."""

    def __init__(
        self, parts: Parts[StepPart], memory: KvMemory, buffers: Buffers, device: torch.device
    ) -> None:
        self._parts = parts
        self._memory = memory
        self._buffers = buffers
        self._device = device
        self._written = torch.tensor([s for part in parts for s in _slots_of(part)], device=device)
        self._plans: dict[tuple[int | None, torch.dtype], list[Decode | Prefill]] = {}

    def attend(self, call: Call) -> torch.Tensor:
        keys, values = self._memory.keys[call.layer], self._memory.values[call.layer]
        keys.index_copy_(0, self._written, call.key[0].transpose(0, 1))
        values.index_copy_(0, self._written, call.value[0].transpose(0, 1))
        _, heads, tokens, _ = call.query.shape
        output = call.query.new_empty((1, tokens, heads, call.value.shape[-1]))
        kind = self._memory.layers[call.layer].window, call.query.dtype
        if kind not in self._plans:
            self._plans[kind] = self._plan(*kind)
        for work in self._plans[kind]:
            work.attend(call, keys, values, self._buffers, output)
        return output

    def _plan(self, window: int | None, dtype: torch.dtype) -> list[Decode | Prefill]:
        plan: list[Decode | Prefill] = []
        groups: dict[int, list[_Span]] = defaultdict(list)
        token = 0
        for part in self._parts:
            span = _Span(part, token, 0 if window is None else max(0, part.start + 1 - window))
            if part.count > 1:
                plan.append(self._prefill(span, window, dtype))
            else:
                # Padding at most doubles a member; short ones share a group.
                groups[max(part.end - span.first - 1, 255).bit_length()].append(span)
            token += part.count
        decodes = (self._decode(g, dtype, alone=len(g) == token) for g in groups.values())
        return [*plan, *decodes]

    def _prefill(self, span: _Span, window: int | None, dtype: torch.dtype) -> Prefill:
        part = span.part
        tokens = slice(span.token, span.token + part.count)
        if part.start == 0 and (window is None or part.count <= window):
            return Prefill(tokens, None, None)
        index, columns = self._look_up([span])
        seen, rows = columns[0], torch.arange(part.start, part.end, device=self._device)
        kept = slice(span.first - span.base, part.end - span.base)
        hidden = seen[kept] > rows.unsqueeze(1)
        if window is not None:
            hidden |= seen[kept] <= rows.unsqueeze(1) - window
        return Prefill(tokens, index[0, kept], _mask(hidden, dtype))

    def _decode(self, group: list[_Span], dtype: torch.dtype, *, alone: bool) -> Decode:
        index, columns = self._look_up(group)
        ends = torch.tensor([[span.first, span.part.end] for span in group], device=self._device)
        hidden = (columns < ends[:, :1]) | (columns >= ends[:, 1:])
        # What is hidden is read from page 0: a NaN that was left there would pass through any mask.
        index.masked_fill_(hidden, 0)
        rows = torch.tensor([span.token for span in group], device=self._device)
        mask = _mask(hidden, dtype)[:, None, None]
        return Decode(None if alone else rows, index.flatten(), mask)

    def _look_up(self, spans: list[_Span]) -> tuple[torch.Tensor, torch.Tensor]:
        """The slots of whole pages from the first that is seen, and the positions of their tokens
        in the sequence; both `[spans, slots of the longest]`."""
        longest = max(len(span.pages) for span in spans)
        tables = [[span.base, *span.pages, *[0] * (longest - len(span.pages))] for span in spans]
        table = torch.tensor(tables, device=self._device)
        offsets = torch.arange(longest * PAGE_TOKENS, device=self._device)
        slots = table[:, 1:].mul(PAGE_TOKENS).repeat_interleave(PAGE_TOKENS, dim=1)
        return slots.add_(offsets % PAGE_TOKENS), table[:, :1] + offsets


class _Span:
    """The part of a sequence that the tokens of a step see."""

    __slots__ = ("base", "first", "pages", "part", "token")

    def __init__(self, part: StepPart, token: int, first: int) -> None:
        self.part = part
        self.token = token
        """Where its new tokens begin in the step."""
        self.first = first
        """The first token that is seen; all those after it, up to `part.end`, are seen too."""
        pages = slice(first // PAGE_TOKENS, pages_for(part.end))
        self.pages = part.sequence.pages[pages]
        self.base = pages.start * PAGE_TOKENS


def _mask(hidden: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    return mask.masked_fill_(hidden, float("-inf"))


def _slots_of(part: StepPart) -> Iterator[int]:
    """The slots in which the keys and values of the part's tokens are kept."""
    for position in range(part.start, part.end):
        page = part.sequence.pages[position // PAGE_TOKENS]
        yield page * PAGE_TOKENS + position % PAGE_TOKENS
