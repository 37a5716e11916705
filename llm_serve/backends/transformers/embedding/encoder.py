"""From a batch of token ids to a vector of each input, or to a score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from llm_serve.backends.transformers.embedding.engine import Input
from llm_serve.backends.transformers.embedding.modules import Normalize, Pooling


class _Padded:
    """What a model is given of a batch. The inputs are padded at their ends: so every token has the
    place that it has alone, and no attention function sees padding."""

    def __init__(self, batch: list[Input], pad_id: int, device: torch.device) -> None:
        counts = [len(one.token_ids) for one in batch]
        self.lengths = torch.tensor(counts)
        shape = (len(batch), max(counts))
        ids, types = torch.full(shape, pad_id), torch.zeros(shape, dtype=torch.long)
        for row, one in enumerate(batch):
            ids[row, : counts[row]] = torch.tensor(one.token_ids)
            if one.types:
                types[row, : counts[row]] = torch.tensor(one.types)
        mask = (torch.arange(shape[1]) < self.lengths.unsqueeze(1)).long()
        self.inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        if any(one.types for one in batch):
            self.inputs["token_type_ids"] = types.to(device)


class Encoder:
    """A model without a head, what pools its last layer, and what comes after that."""

    def __init__(
        self, model: PreTrainedModel, pooling: Pooling, stages: Sequence[nn.Module], pad_id: int
    ) -> None:
        self.model = model
        self.pooling = pooling
        self._stages = [stage.to(model.device) for stage in stages]
        self._pad_id = pad_id

    @property
    def normalized(self) -> bool:
        """Whether the vectors are of unit length."""
        return bool(self._stages) and isinstance(self._stages[-1], Normalize)

    def __call__(self, batch: list[Input]) -> torch.Tensor:
        """`[inputs, size]`, float32, in the host's memory."""
        device = self.model.device
        padded = _Padded(batch, self._pad_id, device)
        last = self.model(**padded.inputs).last_hidden_state.float()
        prompts = torch.tensor([one.prompt_tokens for one in batch], device=device)
        vectors = self.pooling(last, padded.lengths.to(device), prompts)
        for stage in self._stages:
            vectors = stage(vectors)
        return vectors.cpu()


class Ranker:
    """A model that gives one number for two texts, and what makes a score of it."""

    normalized = False

    def __init__(self, model: PreTrainedModel, activation: nn.Module, pad_id: int) -> None:
        self.model = model
        self._activation = activation
        self._pad_id = pad_id

    @property
    def name(self) -> str:
        """Of the function that makes the score."""
        return type(self._activation).__name__.lower()

    def __call__(self, batch: list[Input]) -> torch.Tensor:
        """`[inputs, 1]`, float32, in the host's memory."""
        padded = _Padded(batch, self._pad_id, self.model.device)
        scores: torch.Tensor = self._activation(self.model(**padded.inputs).logits.float())
        return scores.cpu()
