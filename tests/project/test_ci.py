"""CI, the README and the Makefile agree on the commands."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_ci_is_executable_and_runs_the_readmes_command_and_the_matrix():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[:2] == ["set -euo pipefail", 'cd "$(dirname "$0")/.."']
    assert lines[-2:] == ["make test", "make test-matrix MATRIX=others"]
    assert not re.search(r"\bpip\b|pytest", "".join(lines))  # what Python needs, the Makefile installs


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_readme_gives_a_command_that_the_makefile_has(target):
    commands = re.findall(r"(?m)(?:^\s*(?:\$ )?|`)make ([\w-]+)", (ROOT / "README.md").read_text())
    assert target in commands


TARGETS = ["demo", "test", "test-kill", "test-matrix", "test-sdk-matrix", "bench", "bench-quick", "bench-memory"]


@pytest.mark.parametrize("target", TARGETS)
def test_the_makefile_knows_what_to_do(target):
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_test_target_runs_lint_types_and_the_suite():
    done = subprocess.run(["make", "--dry-run", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    for command in ("ruff check .", "ruff format --check .", "mypy", "-m pytest"):
        assert command in done.stdout
