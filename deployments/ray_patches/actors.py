"""The names by which Ray Serve's own actors are found among the named actors of a cluster."""

from __future__ import annotations

CONTROLLER = "SERVE_CONTROLLER_ACTOR"
"""The one that starts and ends what Serve runs, in the namespace `serve`."""
REPLICA = "SERVE_REPLICA::"
"""What the name of every replica's actor begins with; `app#deployment#id` follows."""
