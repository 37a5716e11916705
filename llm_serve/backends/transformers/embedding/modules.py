"""What makes one vector of the last layer's: the modules of sentence-transformers.

Each is read from a folder of the checkpoint and computes in float32. The names and the keys are
those that sentence-transformers 6 writes, and those of the versions before.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from llm_serve.errors import LoadFailed

Stage = Callable[[torch.Tensor], torch.Tensor]
_FORMER_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_SENTENCE = "sentence_embedding"


@dataclass(frozen=True, slots=True)
class Pooling:
    """From the vectors of all tokens to one: of each mode one, side by side."""

    modes: tuple[str, ...]
    include_prompt: bool = True

    @classmethod
    def read(cls, folder: Path, model_id: str) -> Pooling:
        config = read_json(folder / "config.json")
        modes = config.get("pooling_mode")
        if modes is None:
            modes = [mode for key, mode in _FORMER_MODES.items() if config.get(key)] or ["mean"]
        modes = (modes,) if isinstance(modes, str) else tuple(modes)
        if unknown := set(modes) - set(_FORMER_MODES.values()):
            raise LoadFailed(f"{model_id} pools by {', '.join(sorted(unknown))}, which is unknown.")
        return cls(modes, bool(config.get("include_prompt", True)))

    def __call__(
        self, tokens: torch.Tensor, lengths: torch.Tensor, prompts: torch.Tensor
    ) -> torch.Tensor:
        """`tokens` are `[inputs, tokens, size]`; the first `lengths` of each count, `prompts` of
        which are the prompt's."""
        place = torch.arange(tokens.shape[1], device=tokens.device).unsqueeze(0)
        counts = place < lengths.unsqueeze(1)
        first = torch.zeros_like(lengths)
        if not self.include_prompt:
            # An input that is nothing but its prompt has no other token to stand for it.
            first = torch.where(prompts < lengths, prompts, first)
            counts &= place >= first.unsqueeze(1)
        mask = counts.unsqueeze(-1)
        return torch.cat([self._pool(m, tokens, mask, first, lengths) for m in self.modes], dim=-1)

    @staticmethod
    def _pool(
        mode: str,
        tokens: torch.Tensor,
        mask: torch.Tensor,
        first: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        rows = torch.arange(tokens.shape[0], device=tokens.device)
        match mode:
            case "cls":
                return tokens[rows, first]
            case "lasttoken":
                return tokens[rows, lengths - 1]
            case "max":
                return tokens.masked_fill(~mask, -torch.inf).amax(dim=1)
            case "weightedmean":
                place = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
                weights = mask * place.view(1, -1, 1)
                return (tokens * weights).sum(dim=1) / weights.sum(dim=1)
            case _:
                count = mask.sum(dim=1)
                divisor = count if mode == "mean" else count.sqrt()
                return (tokens * mask).sum(dim=1) / divisor


class Dense(nn.Module):  # type: ignore[misc]
    """A linear layer with an activation function of torch's, and perhaps its input added."""

    def __init__(self, config: dict[str, Any], model_id: str) -> None:
        super().__init__()
        size, out = int(config["in_features"]), int(config["out_features"])
        self.linear = nn.Linear(size, out, bias=bool(config.get("bias", True)))
        self.activation = activation_of(config.get("activation_function"), model_id)
        self.adds = bool(config.get("use_residual", False))
        if self.adds and size != out:
            self.residual = nn.Linear(size, out, bias=False)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.activation(self.linear(vectors))
        if self.adds:
            made = made + (self.residual(vectors) if hasattr(self, "residual") else vectors)
        return made


class LayerNorm(nn.Module):  # type: ignore[misc]
    """A layer norm over the vector."""

    def __init__(self, config: dict[str, Any], model_id: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(int(config["dimension"]))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.norm(vectors)
        return normed


class Normalize(nn.Module):  # type: ignore[misc]
    """Unit length."""

    def __init__(self, config: dict[str, Any], model_id: str) -> None:
        super().__init__()

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(vectors, p=2, dim=-1)


_KINDS: dict[str, type[Dense] | type[LayerNorm] | type[Normalize]] = {
    "Dense": Dense,
    "LayerNorm": LayerNorm,
    "Normalize": Normalize,
}


def read_stage(kind: str, folder: Path, model_id: str) -> nn.Module | None:
    """The module of that kind whose files are in `folder`; None for one that changes nothing.
    Raises LoadFailed for a kind that is not known here."""
    if kind == "Dropout":
        return None
    if kind not in _KINDS:
        raise LoadFailed(
            f"{model_id} has a module {kind}, which this backend does not compute; it knows "
            f"Pooling, {', '.join(_KINDS)} and Dropout."
        )
    config = read_json(folder / "config.json")
    if {
        config.get("module_input_name") or _SENTENCE,
        config.get("module_output_name") or _SENTENCE,
    } != {_SENTENCE}:
        raise LoadFailed(
            f"{model_id} changes the vectors of single tokens ({kind}); models with several "
            "vectors of a text are not served."
        )
    stage = _KINDS[kind](config, model_id)
    if any(True for _ in stage.parameters()):
        # No pickled weights, which can run code when read.
        stage.load_state_dict(load_file(folder / "model.safetensors"))
    return stage.float().eval()


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file, empty where there is no file. Raises ValueError for anything else."""
    try:
        data = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    if not isinstance(data, dict):
        raise ValueError(f"{file.name} holds no object")  # noqa: TRY004
    return data


def activation_of(name: str | None, model_id: str) -> nn.Module:
    """An activation by the path of its class; those of torch alone, for no other code is run."""
    if name is None:
        return nn.Tanh()
    module, _, kind = name.rpartition(".")
    found = getattr(nn, kind, None) if module.startswith("torch.nn") else None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise LoadFailed(f"{model_id} has an activation function that is not torch's: {name}.")
    return found()
