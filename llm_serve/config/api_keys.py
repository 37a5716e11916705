"""The file of API keys: the server asks clients for one of them, and the command sends one."""

from __future__ import annotations

from pathlib import Path


def read_keys(path: str | None, name: str = "server.api_key_file") -> tuple[str, ...]:
    """The keys of the file, one a line; blank lines and `#` comments are skipped.

    Raises ValueError, about `name`, for a file that cannot be read or holds no key: a server that
    was meant to have keys must not start without.
    """
    if path is None:
        return ()
    try:
        lines = Path(path).expanduser().read_text().splitlines()
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{name} is no text") from None
    except (RuntimeError, ValueError):  # ~ of a user who is not, or a null byte
        raise ValueError(f"{name} cannot be read: there is no such path") from None
    keys = tuple(k for line in lines if (k := line.strip()) and not k.startswith("#"))
    if not keys:
        raise ValueError(f"{name} holds no key; write one a line")
    return keys
