"""The platform's official SDK, any version of it, in an environment of its own under `.envs/`, made once and kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Mapping

OLDEST, NEWEST = "1.0.0", "1.69.146"
# The `inference` extra would bring torch, which only the SDK's own formats need. Its CLI fails on newer typers.
EXTRAS = {NEWEST: ("numpy", "onnx", "onnxruntime", "opencv-python-headless", "typer<0.29")}
ENVIRONMENTS = Path(__file__).parents[2] / ".envs"


def environment(version: str) -> Path:
    """The Python of an environment that has that version of the SDK; made when it is missing or incomplete."""
    home = ENVIRONMENTS / f"pictograph-{version}"
    wanted = [f"pictograph=={version}", *EXTRAS.get(version, ())]
    python, complete = home / "bin" / "python", home / "complete"
    ENVIRONMENTS.mkdir(exist_ok=True)
    with FileLock(ENVIRONMENTS / f"pictograph-{version}.lock"):
        if not complete.exists() or complete.read_text().split() != wanted:
            shutil.rmtree(home, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
            # Python compiles what is imported; compiling all of it would take longer than the download.
            pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile"]
            subprocess.run([*pip, *wanted], check=True)
            complete.write_text("\n".join(wanted))  # last: a build that was interrupted is begun anew
    return python


def settings(base_url: str, key: str, home: Path) -> dict[str, str]:
    """The environment of a program that uses the SDK: its own settings, and nothing of the caller's."""
    return {
        "PICTOGRAPH_API_KEY": key,
        "PICTOGRAPH_BASE_URL": base_url,
        "NO_PROXY": "127.0.0.1",
        "HOME": str(home),
        "PATH": os.environ["PATH"],
    }


def run(python: Path, program: str, env: Mapping[str, str], *arguments: object) -> dict[str, Any]:
    """The JSON object that a program prints."""
    command = [str(python), "-c", program, *map(str, arguments)]
    result = subprocess.run(command, env=dict(env), capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found
