"""Rule 1 in one place: what every bin holds, what it will hold, and where a replica could go.

A bin is an accelerator (`node1/gpu0`) or the memory of a node (`node1`), with the bytes that models
may use. A replica has bins of one kind; one that needs several gets them on one node, the text
before the last `/`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from llm_serve.residency.state import Model, ModelSpec, Share


def node_of(name: str) -> str:
    return name.rsplit("/", 1)[0]


def share_of(model: Model, bins: tuple[str, ...], capacity: Mapping[str, int]) -> Share:
    """What one replica of `model` holds in `bins`."""
    return Share(bins, {b: model.need(capacity.get(b, 0)) for b in bins})


def is_accelerator(name: str) -> bool:
    return node_of(name) != name


def groups(spec: ModelSpec, capacity: Mapping[str, int]) -> Iterator[list[str]]:
    """The bins that a replica may choose from: all of its kind on one node at a time."""
    spread = spec.bins
    by_node: dict[str, list[str]] = defaultdict(list)
    for name in capacity:
        if is_accelerator(name) == spec.accelerated:
            by_node[node_of(name) if spread > 1 else name].append(name)
    yield from (names for names in by_node.values() if len(names) >= spread)


def known(
    model: Model, bins: tuple[str, ...] | None, capacity: Mapping[str, int]
) -> tuple[str, ...] | None:
    """Where a replica says that it is, if that can be: an engine whose workers have the
    accelerators knows its node only."""
    spec = model.spec
    if bins is None or len(bins) != spec.bins or any(b not in capacity for b in bins):
        return None
    return bins if all(is_accelerator(b) == spec.accelerated for b in bins) else None


def held(model: Model) -> dict[str, int]:
    """Bytes that a model holds, by bin."""
    sizes: dict[str, int] = {}
    for share in model.shares:
        for name, size in share.each.items():
            sizes[name] = sizes.get(name, 0) + size
    return sizes


class Room:
    """The tallies of one pass over the queue, in bytes by bin.

    `used`: all shares, those of leaving models too (rule 1). `staying`: without the leaving ones.
    `reserved_ahead`: what models further ahead in the queue will need.
    """

    def __init__(self, models: Iterable[Model], capacity: Mapping[str, int]) -> None:
        self.capacity = dict(capacity)
        self.used: dict[str, int] = defaultdict(int)
        self.staying: dict[str, int] = defaultdict(int)
        self.reserved_ahead: dict[str, int] = defaultdict(int)
        self.resident = 0
        self.remaining = 0
        for model in models:
            if not model.shares:
                continue
            self.resident += 1
            self.remaining += not model.leaving
            kept = len(model.shares) - (len(model.shares) if model.leaving else model.shedding)
            for number, share in enumerate(model.shares):
                for name, size in share.each.items():
                    self.used[name] += size
                    if number < kept:
                        self.staying[name] += size

    def free(self, name: str) -> int:
        """Bytes free now."""
        return self.capacity[name] - self.used[name]

    def final(self, name: str) -> int:
        """Bytes free once the leaving are gone and those ahead in the queue are in."""
        return self.capacity[name] - self.staying[name] - self.reserved_ahead[name]

    def release(self, model: Model) -> None:
        """Counts a model as leaving."""
        self.remaining -= 1
        for share in model.shares[: len(model.shares) - model.shedding]:
            for name, size in share.each.items():
                self.staying[name] -= size

    def reserve(self, share: Share) -> None:
        """Keeps room for a model that has to wait."""
        self.remaining += 1
        for name, size in share.each.items():
            self.reserved_ahead[name] += size

    def fill(self, share: Share) -> None:
        """Counts a replica that starts now. A model's first one also counts as resident."""
        for name, size in share.each.items():
            self.used[name] += size
            self.staying[name] += size


def never_fits(
    model: Model, models: Iterable[Model], capacity: Mapping[str, int], max_resident: int | None
) -> str | None:
    """Why `model` could not be loaded even if every model but the pinned ones left; None: it can.

    The sentence is for the person who asked.
    """
    pinned = [m for m in models if m.pinned and m.shares and m is not model]
    if max_resident is not None and len(pinned) >= max_resident:
        return f"all {max_resident} places are held by pinned models"
    room = Room((), capacity)
    for other in pinned:
        for share in other.shares[:1]:
            room.fill(share)
    spread, found, largest = model.spec.bins, False, 0
    for names in groups(model.spec, capacity):
        fitting = [n for n in names if model.need(capacity[n]) <= room.final(n)]
        if len(fitting) >= spread:
            return None
        found, largest = True, max(largest, *(room.final(n) for n in names))
    kind = "accelerator" if model.spec.accelerated else "node"
    if not any(is_accelerator(name) for name in capacity) and model.spec.accelerated:
        return "the model needs an accelerator (num_gpus), and no node has one"
    if spread > 1 and not found:
        return f"the model needs {spread} accelerators of one node, and no node has so many"
    each = f"{_gib(-(-model.footprint // spread))} on one"
    if model.spec.fraction >= 1 and -(-model.spec.declared // spread) <= largest:
        each = "a whole"
    elif 0 < model.spec.fraction < 1:
        each = f"{model.spec.fraction:g} of one, and {each}"
    where = f"{each} {kind}" + ("" if spread == 1 else f", and {spread} of them on one node")
    beside = " beside the pinned models" if pinned else ""
    return f"the model needs {where}; at most {_gib(max(largest, 0))} can be freed{beside}"


def emptiest(model: Model, models: Iterable[Model], capacity: Mapping[str, int]) -> tuple[str, ...]:
    """A guess at the bins of a replica that runs but does not say where."""
    room = Room(models, capacity)
    kind = [n for n in capacity if is_accelerator(n) == model.spec.accelerated]
    names = sorted(kind, key=lambda name: (-room.free(name), name))
    return tuple(names[: model.spec.bins])


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
