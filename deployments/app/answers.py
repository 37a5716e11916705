"""From the scheduler's answers to what a client is told."""

from __future__ import annotations

from llm_serve.errors import Conflict, InternalError, LoadFailed, NotReady, ServeError
from llm_serve.residency import effects as fx
from llm_serve.status import Loading


def not_ready(loading: Loading) -> NotReady:
    """The error for a client that was held as long as it may be."""
    return NotReady(
        f"{loading.model.id} is not ready yet; try again in {loading.retry_after_s} s.",
        retry_after_s=loading.retry_after_s,
        loading=loading.body(),
    )


def refusal(effect: object, model: str) -> ServeError:
    """The error for an answer that is neither an admission nor a 202."""
    match effect:
        case fx.Failed(reason=reason, retry_after_s=retry_after_s):
            return LoadFailed(f"{model} could not be loaded: {reason}", retry_after_s=retry_after_s)
        case fx.Declined(reason=reason):
            return Conflict(f"{model}: {reason}.")
        case fx.Expired(loading=loading):
            return not_ready(loading)
        case _:
            return InternalError("The director gave an answer that this ingress does not know.")
