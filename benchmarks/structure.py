"""How many modules and functions of the package one operation enters: `python -m benchmarks.structure`."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import registry_mirror
from registry_mirror.demo import DemoUpstream, demo_models

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PACKAGE = str(Path(registry_mirror.__file__).parent) + os.sep


def entered(act: Callable[[], int]) -> tuple[set[str], set[tuple[str, str]]]:
    """The modules and functions that a call enters, on its own thread and on those that it starts."""
    modules: set[str] = set()
    functions: set[tuple[str, str]] = set()
    own = threading.local()
    own.asked = True

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        is_function = code.co_flags & inspect.CO_OPTIMIZED  # the bodies of modules and classes are not
        if event == "call" and is_function and code.co_filename.startswith(PACKAGE):
            name = code.co_filename.removeprefix(PACKAGE)
            if not name.startswith("demo"):
                modules.add(name)
                functions.add((name, code.co_qualname))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        code = act()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    if code != 0:
        raise SystemExit(f"it ended with {code}")
    return modules, functions


def main() -> None:
    """Prints the figures of this checkout."""
    from registry_mirror.cli import run

    files = list(Path(PACKAGE).rglob("*.py"))
    lines = sum(len(each.read_text().splitlines()) for each in files)
    print(f"files {len(files)}, lines {lines}")
    with tempfile.TemporaryDirectory() as folder, DemoUpstream(demo_models()[:1]) as upstream:
        name = demo_models()[0].document["name"]
        os.environ |= {
            "MIRROR_ROOT": f"{folder}/root",
            "PICTOGRAPH_API_KEY": upstream.api_key,
            "PICTOGRAPH_BASE_URL": upstream.base_url,
        }
        with contextlib.redirect_stdout(None):
            found = {verb[0]: entered(partial(run, verb)) for verb in (["sync"], ["path", name])}
    for verb, (modules, functions) in found.items():
        print(f"{verb}: {len(modules)} modules, {len(functions)} functions")
        rooms: dict[str, int] = {}
        for each in modules:
            room = each.split(os.sep)[0] if os.sep in each else "."
            rooms[room] = rooms.get(room, 0) + 1
        print("  " + ", ".join(f"{room} {count}" for room, count in sorted(rooms.items())))


if __name__ == "__main__":
    main()
