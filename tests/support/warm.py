"""`mirror` processes that begin with everything imported, which would take longer than most of what they do.

A process that has imported it all forks for each. The command starts, ends, prints and meets signals as any other; what
a fresh interpreter does before its first line (imports, its own environment variables, closed streams) is tried with a
fresh one, by `start_mirror`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ROOMS = ("sync.run", "sync.preview", "sync.single", "upkeep.verify.run", "upkeep.gc.collect", "upkeep.doctor.examine")
_VERBS = (
    "config",
    "delete",
    "doctor",
    "download",
    "gc",
    "get",
    "keys",
    "list",
    "path",
    "pin",
    "status",
    "sync",
    "verify",
)
_INTERPRETERS = ("PYTHON", "LC_", "LANG", "LD_PRELOAD", "FAKETIME")

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([
    "support.warm", "rich.progress", *(f"registry_mirror.{room}" for room in _ROOMS),
    *(f"registry_mirror.cli.{verb}" for verb in _VERBS),
])  # fmt: skip


def fits(env: Mapping[str, str]) -> bool:
    """Whether an environment has nothing that an interpreter reads when it starts."""
    return not any(name.startswith(_INTERPRETERS) for name in env)


def run(args: Sequence[str], env: Mapping[str, str], seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Runs `mirror` to its end.

    Raises:
        TimeoutError: it does not come to one.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = _processes.Process(target=_main, args=(list(args), dict(env), str(out), str(err), os.getcwd()))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"mirror {' '.join(args)} does not end: {err.read_text()}")
        return subprocess.CompletedProcess(["mirror", *args], process.exitcode, out.read_text(), err.read_text())


def _main(args: list[str], env: dict[str, str], out: str, err: str, folder: str) -> None:
    """The command, in a process of its own."""
    for number, path in ((0, os.devnull), (1, out), (2, err)):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["mirror", *args]
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process
    from registry_mirror.__main__ import main

    main()
