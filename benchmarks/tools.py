"""The peers: finding them, installing them, running them.

    python -m benchmarks.tools        installs what is missing

Debian's packages are installed when that is possible without asking (root, apt-get); otherwise a line says which are
missing. Python peers live in an environment of their own, so that nothing of theirs reaches ours.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .lines import NotMeasuredError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TOP = Path(__file__).parents[1]
API_KEY = "pk_live_benchmark"
PACKAGES = {"curl": "curl", "aria2c": "aria2", "nginx": "nginx", "wrk": "wrk", "rclone": "rclone"}
"""Debian's package of each command."""
WANTED = ("pictograph==1.69.146", "huggingface_hub>=0.30", "matplotlib>=3.8")
ENVIRONMENT = TOP / ".envs" / "bench"
PEERS_PYTHON = ENVIRONMENT / "bin" / "python"
_COMPLETE = ENVIRONMENT / "complete"
_CURE = "`make bench` installs it, or says how"


def require(*commands: str) -> None:
    """Says which of some commands are not there.

    Raises:
        NotMeasuredError: one is missing.
    """
    missing = [_named(each) for each in commands if not present(each)]
    if missing:
        raise NotMeasuredError(f"{', '.join(missing)} not found; {_CURE}")


def _named(command: str) -> str:
    return "the peers' Python environment" if command == str(PEERS_PYTHON) else command


def present(command: str) -> bool:
    """Whether a command, or the peers' Python environment by its path, can be run."""
    if command == str(PEERS_PYTHON):
        return _COMPLETE.exists() and _COMPLETE.read_text().split() == list(WANTED)
    return shutil.which(command) is not None


def environment(**more: str) -> dict[str, str]:
    """The environment of every process that is measured, with nothing of the caller's but the way to programs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    return {**kept, "NO_PROXY": "127.0.0.1", **more}


def run(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> str:
    """Standard output of a command.

    Raises:
        NotMeasuredError: it ended with another code than 0; the end of what it said is in the message.
    """
    done = subprocess.run(
        [*map(str, command)],
        env=dict(env or environment()),
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise NotMeasuredError(f"{Path(command[0]).name} ended with {done.returncode}: {' '.join(said)}")
    return done.stdout


def timed(work: Callable[[], object]) -> float:
    """Seconds that a piece of work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def inside(task: str, **arguments: Any) -> dict[str, Any]:
    """Runs a task of `benchmarks.inside` in a fresh interpreter; what it printed."""
    return _answer(run([sys.executable, "-m", "benchmarks.inside", task, json.dumps(arguments)]))


def theirs(task: str, env: Mapping[str, str] | None = None, **arguments: Any) -> dict[str, Any]:
    """Runs a task of `benchmarks/theirs.py` in a fresh interpreter of the peers' environment; what it printed."""
    script = TOP / "benchmarks" / "theirs.py"
    return _answer(run([PEERS_PYTHON, script, task, json.dumps(arguments)], env))


def _answer(printed: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return answer


def mirror_environment(base_url: str, root: Path, **more: str) -> dict[str, str]:
    """The environment of a `mirror` process that syncs a root from an upstream."""
    return environment(MIRROR_ROOT=str(root), PICTOGRAPH_API_KEY=API_KEY, PICTOGRAPH_BASE_URL=base_url, **more)


def mirror(*arguments: str) -> list[str]:
    """The command line of `mirror`, as it is installed beside this interpreter."""
    script = Path(sys.executable).with_name("mirror")
    return [str(script) if script.exists() else "mirror", *arguments]


def install() -> list[str]:
    """Installs the peers that are missing.

    Returns:
        What a person has to do by hand, one line each.
    """
    return [*_install_commands(), *_install_environment()]


def _install_commands() -> list[str]:
    missing = [package for command, package in PACKAGES.items() if not present(command)]
    if not missing:
        return []
    by_hand = [f"install {', '.join(missing)} with your system's package manager, and run this again"]
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return by_hand
    print(f"installing {', '.join(missing)}", file=sys.stderr)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    steps = (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", *missing])
    failed = any(subprocess.run(step, env=quiet, stdout=sys.stderr, check=False).returncode for step in steps)
    return by_hand if failed else []


def _install_environment() -> list[str]:
    if present(str(PEERS_PYTHON)):
        return []
    print(f"setting up {ENVIRONMENT.relative_to(TOP)} (once)", file=sys.stderr)
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    steps = (
        [sys.executable, "-m", "venv", str(ENVIRONMENT)],
        [str(PEERS_PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *WANTED],
    )
    if any(subprocess.run(step, stdout=sys.stderr, check=False).returncode for step in steps):
        return [f"the Python package index did not give {', '.join(WANTED)}; run this again when it is reachable"]
    _COMPLETE.write_text("\n".join(WANTED))  # last: an installation that was interrupted is begun anew
    return []


def main() -> int:
    """Installs. What is missing afterwards is for each figure to say, so this ends well."""
    for line in install():
        print(f"benchmarks: {line}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
