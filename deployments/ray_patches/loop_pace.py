"""How often the Serve controller looks at its applications, changed while it runs.

Ray reads RAY_SERVE_CONTROL_LOOP_INTERVAL_S once, into a global of the controller's module, and that
before each of its pauses.
"""

from __future__ import annotations

from ray.serve._private import controller

TICK_S: float = controller.CONTROL_LOOP_INTERVAL_S
"""As the environment says."""


def set_pace(seconds: float) -> None:
    """For the controller in whose process this is called."""
    controller.CONTROL_LOOP_INTERVAL_S = seconds
