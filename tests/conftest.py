"""What tests share: an upstream with three models, and a root to mirror it into."""

from __future__ import annotations

import signal
import subprocess

import pytest
from support.upstream import FaultyUpstream, many_models

# A shell that runs the suite in the background has it ignore Ctrl-C, and its children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def upstream():
    """Three ready models with weights of their own."""
    with FaultyUpstream(many_models(3)) as running:
        yield running


@pytest.fixture
def root(tmp_path):
    """A folder that does not exist yet."""
    return tmp_path / "root"


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=False)
    if made.returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
