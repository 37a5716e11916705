"""Messages to a replica that go straight to its process, as Ray's documentation does not offer.

Serve's handles pass what they send and get by reference, through Ray's object store, unless this
option is False. Then both directions are gRPC messages between the two processes, of 4 MiB at most.
"""

from __future__ import annotations

from ray.serve.handle import DeploymentHandle


def by_value(handle: DeploymentHandle) -> DeploymentHandle:
    """The same handle for streams, with calls and answers sent by value."""
    return handle.options(stream=True, _by_reference=False)
