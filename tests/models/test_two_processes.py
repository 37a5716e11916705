"""Real processes: two that start together, and one that is killed in the middle."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import llm_serve
from llm_serve.config import ModelConfig
from llm_serve.models import resolve
from llm_serve.models.fetch import subprocess_runner

RESOLVE = """
import sys
from llm_serve.config import ModelConfig
from llm_serve.models import resolve
def report(progress): print(progress.stage, progress.fraction, flush=True)
print("folder", resolve(ModelConfig(id="tiny", source=sys.argv[1]), report), flush=True)
"""
Start = Callable[[ModelConfig], subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def begin(model: ModelConfig) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", RESOLVE, str(model.source)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(llm_serve.__file__).parents[1])},
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def test_two_that_start_together_fetch_once(
    index: Any, tiny: Callable[..., ModelConfig], start: Start
) -> None:
    index.hold = True
    first = start(tiny())
    assert index.half_sent.wait(60)
    second = start(tiny())
    assert second.stdout is not None
    assert second.stdout.readline() == "download None\n"  # it waits for the first, and says so
    index.release.set()
    ends = [process.communicate(timeout=60)[0].splitlines()[-1] for process in (first, second)]
    assert ends[0] == ends[1] == f"folder {resolve(tiny())}"
    assert index.served == 1


def test_after_a_kill_the_next_one_cleans_up_and_builds(
    index: Any,
    tiny: Callable[..., ModelConfig],
    start: Start,
    work_folders: Callable[[], list[Path]],
) -> None:
    index.hold = True
    process = start(tiny())
    assert index.half_sent.wait(60)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert len(gone) == len(children), f"left running: {alive}"
    assert len(work_folders()) == 1
    index.hold = False
    index.release.set()
    assert (resolve(tiny()) / "model.safetensors").is_file()
    assert work_folders() == []
    assert index.served == 2


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    def write(code: str) -> str:
        (tmp_path / "job.py").write_text(code)
        return "job"

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return write


def test_a_child_that_gets_on_has_no_limit(module: Callable[[str], str]) -> None:
    steps = itertools.count()
    job = module("import time\ntime.sleep(1)\nprint('done')")
    done = subprocess_runner.run(job, tick=lambda lines: next(steps), stall_s=0.3)
    assert (done.status, done.stalled, done.lines) == (0, False, ("done",))


def test_a_child_that_stands_still_is_killed(module: Callable[[str], str]) -> None:
    job = module("import threading\nthreading.Event().wait()")
    done = subprocess_runner.run(job, tick=lambda lines: 0, stall_s=0.3)
    assert done.stalled
    assert done.status != 0


def test_a_child_may_leave_a_sentence_among_noise(module: Callable[[str], str]) -> None:
    noise = "print('{ not json')\nprint('[1]')\n"
    job = module(
        noise + """print('{"failed": "So it is."}')\nprint('{"x": 1}')\nraise SystemExit(3)"""
    )
    done = subprocess_runner.run(job, tick=lambda lines: 0)
    assert (done.status, done.failure) == (3, "So it is.")


def test_a_tick_that_raises_takes_the_child_with_it(module: Callable[[str], str]) -> None:
    def tick(lines: object) -> None:
        raise RuntimeError("cancelled")

    before = set(psutil.Process().children())
    with pytest.raises(RuntimeError, match="cancelled"):
        subprocess_runner.run(module("import threading\nthreading.Event().wait()"), tick=tick)
    assert set(psutil.Process().children()) <= before
