"""The registry that docs/getting-started.md keeps running for trials does run, as it stands on the page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.syncing import mirror

PAGE = (Path(__file__).parents[2] / "docs" / "getting-started.md").read_text("utf-8")


@pytest.fixture
def env():
    """What the second shell has: the line that the program of the page prints."""
    (program,) = [
        block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "with DemoUpstream" in block
    ]
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            words = running.stdout.readline().removeprefix("export ").split()
            kept = {
                name: value for name, value in os.environ.items() if not name.startswith(("MIRROR_", "PICTOGRAPH_"))
            }
            yield {**kept, **dict(word.split("=", 1) for word in words)}
            running.communicate("\n", timeout=20)
            assert running.returncode == 0
        finally:
            running.kill()


def test_what_needs_an_upstream_can_be_tried_with_it(env, root, tmp_path):
    def run(*arguments: str) -> str:
        done = mirror("--root", str(root), *arguments, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("sync", "Box Condition")
    got = tmp_path / "forklifts.onnx"
    run("download", "Forklift Finder", "-o", str(got), "--fetch")
    path = Path(run("path", "Forklift Finder").strip())
    assert path.read_bytes() == got.read_bytes()
    path.chmod(0o644)
    path.write_bytes(b"x" * got.stat().st_size)
    run("verify", "--repair")
    assert path.read_bytes() == got.read_bytes()
    run("delete", "--yes", "Forklift Finder")
    assert json.loads(run("get", "Forklift Finder", "--json"))["status"] == "archived"


def test_the_status_on_the_page_is_the_one_that_is_printed(env, root):
    assert mirror("--root", str(root), "sync", env=env).returncode == 0
    printed = mirror("--root", str(root), "status", env=env).stdout.splitlines()
    shown = PAGE.partition("$ mirror status\n")[2].partition("```")[0].splitlines()
    assert [line[:13] for line in shown] == [line[:13] for line in printed]
    assert [line for line in shown if line.startswith(("models", "weights", "cached", "checks"))] == [
        line for line in printed if line.startswith(("models", "weights", "cached", "checks"))
    ]
