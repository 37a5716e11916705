"""What the ingresses report: who lives, what is in flight, which snapshot each routes by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llm_serve.residency.events import Usage, Use


@dataclass(slots=True)
class _Ingress:
    acked: int
    seen_at: float
    uses: Mapping[str, Use]


class Ingresses:
    """The ingresses that reported lately."""

    def __init__(self) -> None:
        self._ingresses: dict[str, _Ingress] = {}
        self._asked: dict[str, float] = {}
        """When each last asked for a model: one that never reports must not be waited for."""

    def hear(self, ingress: str, now: float) -> None:
        """An ingress asked for a model."""
        self._asked[ingress] = now

    def report(self, usage: Usage, now: float) -> frozenset[str]:
        """Takes a report in: the models whose counts may have changed."""
        old = self._ingresses.get(usage.ingress)
        self._ingresses[usage.ingress] = _Ingress(usage.acked, now, usage.uses)
        return frozenset(usage.uses) | frozenset(old.uses if old else ())

    def remove(self, ingress: str) -> frozenset[str]:
        """Forgets an ingress: the models whose counts may have changed."""
        self._asked.pop(ingress, None)
        old = self._ingresses.pop(ingress, None)
        return frozenset(old.uses) if old else frozenset()

    def silent(self, now: float, timeout_s: float) -> list[str]:
        """The ingresses that have neither reported nor asked for `timeout_s`."""
        heard = self._asked | {
            name: max(i.seen_at, self._asked.get(name, 0.0)) for name, i in self._ingresses.items()
        }
        return [name for name, at in heard.items() if now - at > timeout_s]

    def counts(self, model: str) -> tuple[int, int]:
        """Requests of `model` in flight and queued, over all ingresses."""
        uses = [i.uses[model] for i in self._ingresses.values() if model in i.uses]
        return sum(u.in_flight for u in uses), sum(u.queued for u in uses)

    def others(self, ingress: str, now: float, fresh_s: float) -> dict[str, Use]:
        """What the ingresses but this one have of each model; of those that reported within
        `fresh_s`, since one that left has nothing any more."""
        total: dict[str, Use] = {}
        for name, other in self._ingresses.items():
            if name == ingress or now - other.seen_at > fresh_s:
                continue
            for model, use in other.uses.items():
                so_far = total.get(model, Use(0, idle_s=use.idle_s))
                total[model] = Use(
                    so_far.in_flight + use.in_flight,
                    so_far.queued + use.queued,
                    min(so_far.idle_s, use.idle_s),
                    so_far.held + use.held,
                )
        return total

    def acknowledged(self, version: int) -> bool:
        """Whether every ingress routes by snapshot `version` or a newer one.

        False while none is known: a director that was just born has not heard of them yet.
        """
        ingresses = self._ingresses.values()
        return bool(ingresses) and all(i.acked >= version for i in ingresses)
