"""The README's servers are started as the command line's are."""

from tests.cli.conftest import port, start

__all__ = ["port", "start"]
