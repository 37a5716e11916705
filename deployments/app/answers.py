"""From the scheduler's answers to what a client is told."""

from __future__ import annotations

from llm_serve.api.loading import Accepted, Loading
from llm_serve.errors import Conflict, InternalError, LoadFailed, NotReady, ServeError
from llm_serve.residency import effects as fx


def loading_of(waiting: fx.Waiting) -> Loading:
    return Loading(
        model=waiting.model,
        current_model=waiting.current_model,
        retry_after_s=waiting.retry_after_s,
        eta_s=waiting.eta_s,
        stage=waiting.stage,
        progress=waiting.progress,
        position=waiting.position,
    )


def accepted(waiting: fx.Waiting) -> Accepted:
    return Accepted(loading_of(waiting))


def refusal(effect: object, model: str) -> ServeError:
    """The error for an answer that is neither an admission nor a 202."""
    match effect:
        case fx.Failed(reason=reason, retry_after_s=retry_after_s):
            return LoadFailed(f"{model} could not be loaded: {reason}", retry_after_s=retry_after_s)
        case fx.Conflict(reason=reason):
            return Conflict(f"{model}: {reason}.")
        case fx.Expired(waiting=waiting):
            loading = loading_of(waiting)
            return NotReady(
                f"{model} is not ready yet; try again in {loading.retry_after_s} s.",
                retry_after_s=loading.retry_after_s,
                loading=loading.body(),
            )
        case _:
            return InternalError("The director gave an answer that this ingress does not know.")
