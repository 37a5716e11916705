"""Checks without any engine that a folder is a model: config.json and whole *.safetensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

MODULES = "modules.json"
"""The file by which sentence-transformers names the parts of an embedding model."""
_WITH_WEIGHTS = ("Dense", "LayerNorm")
_WITH_SETTINGS = ("Pooling", *_WITH_WEIGHTS)
_WEIGHTS = "model.safetensors"
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library itself


class BadFolder(Exception):
    """The folder is no complete model; the text is the end of a sentence about it."""


def weights_bytes(folder: Path) -> int:
    """The bytes of the weights in a model folder, that is of its *.safetensors."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def check_folder(folder: Path) -> None:
    """Raises BadFolder unless `AutoModelForCausalLM.from_pretrained` has what it needs, or for a
    LoRA adapter, what an engine needs to add it to its model.

    Reads config.json, the shard index and each safetensors header, some KiB per file: enough to
    see a missing shard or a cut-off download, not a flipped bit.
    """
    if not folder.is_dir():
        what = "is a file; give the folder around it" if folder.exists() else "does not exist"
        raise BadFolder(what)
    adapter = folder / "adapter_config.json"
    _read_object(adapter if adapter.exists() else folder / "config.json")
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        pickles = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        other = "only pickled weights, which can run code when read" if pickles else "no weights"
        raise BadFolder(f"has {other}; it needs *.safetensors")
    for index in folder.glob("*.safetensors.index.json"):
        wanted = _read_object(index).get("weight_map")
        names = set(wanted.values()) if isinstance(wanted, dict) else set()
        missing = sorted(str(n) for n in names - {shard.name for shard in shards})
        if missing:
            raise BadFolder(f"lacks {len(missing)} of {len(names)} weight files: {missing[0]}")
    for shard in (*shards, *_parts(folder)):
        if cut_off(shard):
            raise BadFolder(f"has a damaged or cut-off {shard.name}; copy or download it again")


def _parts(folder: Path) -> Iterator[Path]:
    """The weights of an embedding model that lie in folders of their own. Raises BadFolder where
    some, or what is said of a part, is not there."""
    if not (folder / MODULES).exists():
        return
    try:
        parts = json.loads((folder / MODULES).read_bytes())
        named = [(str(part["path"]), str(part["type"])) for part in parts]
    except (OSError, ValueError, TypeError, KeyError):
        raise BadFolder(f"has an unreadable {MODULES}") from None
    for place, kind in named:
        own = folder / place
        if not place or not own.resolve().is_relative_to(folder.resolve()):
            continue
        kind = kind.rpartition(".")[2]
        if kind in _WITH_SETTINGS and not (own / "config.json").exists():
            raise BadFolder(f"has no {place}/config.json; copy or download it again")
        if kind in _WITH_WEIGHTS:
            if (own / "pytorch_model.bin").exists() and not (own / _WEIGHTS).exists():
                raise BadFolder(f"has pickled weights in {place}, which can run code when read")
            yield own / _WEIGHTS


def _read_object(file: Path) -> dict[str, object]:
    try:
        data = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise BadFolder(f"has no {file.name}") from None
    except (OSError, ValueError):
        raise BadFolder(f"has an unreadable {file.name}") from None
    if not isinstance(data, dict):
        raise BadFolder(f"has an unreadable {file.name}")
    return data


def cut_off(file: Path) -> bool:
    """True unless the safetensors header is JSON and its last tensor ends where the file ends.

    Format: 8 bytes little-endian header length, the JSON header, the tensors.
    """
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, _MAX_HEADER_BYTES)))
        header.pop("__metadata__", None)
        end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        return bool(8 + length + end != file.stat().st_size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, struct.error):
        return True
