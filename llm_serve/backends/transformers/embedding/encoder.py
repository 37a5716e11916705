"""From a batch of token ids to a vector of each input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from llm_serve.backends.transformers.embedding.engine import Input
from llm_serve.backends.transformers.embedding.modules import Normalize, Pooling


class Encoder:
    """A model without a head, what pools its last layer, and what comes after that.

    The inputs of a batch are padded at their ends: so every token has the place that it has alone,
    and no attention function sees padding.
    """

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
        counts = [len(one.token_ids) for one in batch]
        ids = torch.full((len(batch), max(counts)), self._pad_id)
        for row, one in enumerate(batch):
            ids[row, : counts[row]] = torch.tensor(one.token_ids)
        lengths = torch.tensor(counts)
        mask = (torch.arange(ids.shape[1]) < lengths.unsqueeze(1)).long()
        output = self.model(input_ids=ids.to(device), attention_mask=mask.to(device))
        prompts = torch.tensor([one.prompt_tokens for one in batch], device=device)
        vectors = self.pooling(output.last_hidden_state.float(), lengths.to(device), prompts)
        for stage in self._stages:
            vectors = stage(vectors)
        return vectors.cpu()
