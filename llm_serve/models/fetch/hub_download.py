"""Downloads a hub repository into the hub's cache, as a process of its own.

    python -m llm_serve.models.fetch.hub_download ORG/NAME REVISION CACHE

Its own process, because the client's threads cannot be stopped from outside and a download that
stands still must be. Every failure becomes one sentence.
"""

from __future__ import annotations

import errno
import sys
import traceback
from pathlib import Path

from llm_serve.errors import LoadFailed
from llm_serve.models.disk import require_space
from llm_serve.models.fetch.subprocess_runner import tell

ALLOW = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
IGNORE = ("[!0-9]*/*", "[0-9][!_]*/*", "consolidated*.safetensors")
"""Subfolders hold other formats, but for the numbered ones of sentence-transformers, `1_Pooling`
and the like; Mistral's `consolidated` are the same weights a second time."""


def download(repo: str, revision: str | None, cache: Path) -> None:
    """Fetches what ALLOW and IGNORE leave; LoadFailed or an error of huggingface_hub."""
    from huggingface_hub import snapshot_download

    allow, ignore = list(ALLOW), list(IGNORE)
    plan = snapshot_download(
        repo,
        revision=revision,
        cache_dir=cache,
        allow_patterns=allow,
        ignore_patterns=ignore,
        dry_run=True,
    )
    if not any(file.filename.endswith(".safetensors") for file in plan):
        raise LoadFailed(
            f"The model {repo} on the hub has no *.safetensors. Other formats are not loaded: "
            "pickled weights can run code when read. Choose a model that has them."
        )
    needed = sum(file.file_size or 0 for file in plan if file.will_download)
    require_space(cache, needed, f"download {repo}", "HF_HOME")
    tell(needed=needed)
    snapshot_download(
        repo, revision=revision, cache_dir=cache, allow_patterns=allow, ignore_patterns=ignore
    )


def sentence(repo: str, revision: str | None, error: BaseException) -> str:
    """What to tell the person about an error of `download`."""
    from huggingface_hub import errors

    cause: BaseException | None = error
    while cause is not None:  # a dry run hides the reason in its cause
        if isinstance(cause, LoadFailed):
            return cause.message
        if isinstance(cause, errors.GatedRepoError):
            return (
                f"The model {repo} is gated: accept its terms on the hub, then set HF_TOKEN to a "
                "token of that account."
            )
        if isinstance(cause, errors.RepositoryNotFoundError):
            return (
                f"There is no model {repo} on the hub, or it is private. Check the id; for a "
                "private model set HF_TOKEN."
            )
        if isinstance(cause, errors.RevisionNotFoundError):
            return f"The model {repo} on the hub has no revision {revision!r}."
        if isinstance(cause, errors.HfHubHTTPError) and cause.response is not None:
            status = cause.response.status_code
            if status in (401, 403):
                return f"The hub refused {repo} (HTTP {status}): set HF_TOKEN to a valid token."
            return f"The hub answered HTTP {status} for {repo}. Try again later."
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"The disk is full while downloading {repo}: free some space, or set HF_HOME."
        if isinstance(cause, PermissionError):
            return "The hub's cache folder may not be written: set HF_HOME to a folder that may."
        cause = cause.__cause__
    return (
        f"The hub could not be reached for {repo} and it is not cached. Check the network, the "
        "proxy settings and HF_ENDPOINT, or set `source` to a local folder."
    )


def main() -> int:
    repo, revision, cache = sys.argv[1], sys.argv[2] or None, Path(sys.argv[3])
    try:
        download(repo, revision, cache)
    except Exception as error:
        traceback.print_exc()
        tell(failed=sentence(repo, revision, error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
