"""A name to a path: in a running program, and as a command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .. import tools
from ..library import library
from ..lines import Kind, NotMeasuredError, Target
from ..setting import OURS, Contender, against
from ..upstream import model_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..lines import Line
    from ..setting import Setting

CACHE, PYTHON = "huggingface_hub.try_to_load_from_cache", "python -c pass"
CALLS = 5
"""Processes a run: one alone is over too soon to tell."""


def warm(setting: Setting) -> list[Line]:
    """`Mirror.models.path(name)`; the peer's cache holds a single file, which is its best case."""
    held = library(setting, setting.sizes.models)
    count = setting.sizes.lookups

    def ours() -> float:
        return float(tools.inside("lookup", root=str(held.root), count=count, models=held.count)["seconds"]) * 1e6

    def peer() -> float:
        with setting.scratch() as folder:
            env = tools.environment(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
            return float(tools.theirs("lookup", env, cache=str(folder), count=count)["seconds"]) * 1e6

    contenders = [Contender(OURS, ours), Contender(CACHE, peer, str(tools.PEERS_PYTHON))]
    what = f"path by name, warm, {held.count:,} models"
    return against(what, setting.alternate(contenders, "µs"), {CACHE: Target(Kind.SPEED, 2.5)})


def command(setting: Setting) -> list[Line]:
    """`mirror path NAME` as a whole process."""
    held = library(setting, setting.sizes.models)
    path = tools.mirror("--root", str(held.root), "path", model_name(held.count // 2))
    contenders = [
        Contender(OURS, lambda: _repeated(path, says=".onnx")),
        Contender(PYTHON, lambda: _repeated([sys.executable, "-c", "pass"]), sys.executable),
    ]
    what = f"mirror path NAME, {held.count:,} models"
    return against(what, setting.alternate(contenders), {PYTHON: Target(Kind.TIME, 3.5)})


def _repeated(command: Sequence[str], says: str = "") -> float:
    env = tools.environment()
    said: list[str] = []
    seconds = tools.timed(lambda: said.extend(tools.run(command, env) for _ in range(CALLS)))
    if not all(each.strip().endswith(says) for each in said):
        raise NotMeasuredError(f"{command[0]} said {said[0]!r}")
    return seconds / CALLS
