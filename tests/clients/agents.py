"""Two agents that people work with, run without a person: each asks its tool for a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.clients.driver import LONGEST_S, MODULES, Outcome, environment
from tests.clients.roster import Client

NOTE = "The capital of France is Paris."
READ = "Read note.txt, and say what it says."
NEXT = "The capital of Italy is Rome. Say so."
COMMAND = "cat note.txt"
CODEX_CONFIG = """
model_provider = "local"

[model_providers.local]
name = "local"
base_url = "{url}/v1"
wire_api = "responses"
"""
CODEX_CALL = {"name": "exec_command", "arguments": {"cmd": COMMAND}}
CLAUDE_CALL = {"name": "Bash", "arguments": {"command": COMMAND, "description": "Read the note"}}


def call(value: dict[str, Any]) -> str:
    """As a model of Hermes writes it."""
    return f"<tool_call>\n{json.dumps(value)}\n</tool_call>"


class Agent:
    """An agent's command; it has the methods of `Driven`.

    The model is told to answer with a call first, and then repeats what it is sent last. So the
    text of the file reaches the person only if the tool ran, and its result went back.
    """

    def __init__(self, client: Client, home: Path, url: str) -> None:
        self.client = client
        self._home = home
        self._url = url
        self._work = home / "work"
        self._work.mkdir(parents=True)
        (self._work / "note.txt").write_text(NOTE)
        (home / ".codex").mkdir()
        (home / ".codex" / "config.toml").write_text(CODEX_CONFIG.format(url=url))

    def do(self, feature: str, model: str, other: str = "") -> Outcome:
        """`switch` goes on with the conversation in the other model."""
        try:
            ran, said = self._turn(model, READ)
            if feature != "switch":
                return Outcome({"ran": ran, "text": said})
            _, more = self._turn(other, NEXT, again=True)
        except (subprocess.SubprocessError, LookupError, ValueError) as error:
            return Outcome(error=f"{type(error).__name__}: {error}")
        return Outcome({"ran": ran, "texts": [said, more]})

    def close(self) -> None:
        """Nothing runs between two turns."""

    def _turn(self, model: str, prompt: str, again: bool = False) -> tuple[str, str]:
        """What its tool said, and what it says itself at the end."""
        if self.client.npm == "@openai/codex":
            return _codex(list(self._run(_codex_command(model, prompt, again))))
        return _claude(list(self._run(_claude_command(model, prompt, again))))

    def _run(self, command: list[str]) -> Iterator[dict[str, Any]]:
        own = {
            "ANTHROPIC_BASE_URL": self._url,
            "ANTHROPIC_API_KEY": "not-required",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        process = subprocess.Popen(
            command,
            env={**environment(self._home, self._url), **own},
            cwd=self._work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            said, complained = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the command, and what it has started
            process.communicate()
            raise
        if process.returncode:
            raise ValueError(f"exit {process.returncode}: {said[-2000:]} {complained[-2000:]}")
        for line in said.splitlines():
            if line.startswith("{"):
                yield json.loads(line)


def _codex_command(model: str, prompt: str, again: bool) -> list[str]:
    codex = str(MODULES / ".bin" / "codex")
    options = ["--json", "--skip-git-repo-check", "-m", model]
    if again:
        return [codex, "exec", "resume", "--last", *options, prompt]
    # Its sandbox needs rights that a container may not have; the one command is ours.
    return [codex, "exec", "--sandbox", "danger-full-access", *options, prompt]


def _codex(events: list[dict[str, Any]]) -> tuple[str, str]:
    items = [event["item"] for event in events if event["type"] == "item.completed"]
    ran = [item["aggregated_output"] for item in items if item["type"] == "command_execution"]
    said = [item["text"] for item in items if item["type"] == "agent_message"]
    return "".join(ran), said[-1]


def _claude_command(model: str, prompt: str, again: bool) -> list[str]:
    claude = str(MODULES / ".bin" / "claude")
    options = ["--model", model, "--output-format", "stream-json", "--verbose"]
    more = ["--continue"] if again else ["--allowedTools", "Bash"]
    return [claude, "-p", prompt, *options, *more]


def _claude(events: list[dict[str, Any]]) -> tuple[str, str]:
    ran = [
        str(block["content"])
        for event in events
        if event["type"] == "user"
        for block in event["message"]["content"]
        if block["type"] == "tool_result"
    ]
    return "".join(ran), events[-1]["result"]
