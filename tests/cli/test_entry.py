"""The first moments of the command: Ctrl-C while it is being imported, and libraries that are not there."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import registry_mirror

TOP = Path(__file__).parents[2]
# `mirror`, with arguments, after what the test does to the interpreter.
ENTRY = "import sys\n{before}\nfrom registry_mirror.__main__ import main\nsys.argv[1:] = {arguments!r}\nmain()"
SIGNAL_AT = """
import os, signal
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


def call(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    return run(ENTRY.format(before=before, arguments=list(arguments)))


def without(*libraries: str) -> str:
    return "\n".join(f"sys.modules[{name!r}] = None" for name in libraries)


@pytest.mark.parametrize(
    "moment", ["registry_mirror.cli", "click", "registry_mirror.cli.config", "registry_mirror.config"]
)
def test_ctrl_c_while_the_command_is_being_imported_ends_with_130_and_one_line(moment, tmp_path):
    done = call("--root", str(tmp_path), "config", "show", before=SIGNAL_AT.format(name=moment))
    assert (done.returncode, done.stderr.split("mirror: ")[-1]) == (130, "interrupted\n")
    assert "Traceback" not in done.stderr


def test_the_command_begins_in_a_module_that_imports_nothing():
    project = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"] == {"mirror": "registry_mirror.__main__:main"}
    bare = set(run("import sys, __future__; print(*sys.modules)").stdout.split())
    found = set(run("import sys, registry_mirror.__main__; print(*sys.modules)").stdout.split())
    assert found - bare == {"registry_mirror", "registry_mirror.__main__"}


def test_every_name_of_the_package_is_there_when_it_is_asked_for():
    assert set(registry_mirror.__all__) <= set(dir(registry_mirror))
    for name in registry_mirror.__all__:
        assert getattr(registry_mirror, name) is getattr(registry_mirror, name)
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        _ = registry_mirror.Clinet


def test_a_command_line_without_click_says_so_in_one_line():
    done = call("list", before=without("click"))
    words = "needs click, which is not installed; `pip install click`, or install registry-mirror without --no-deps"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"mirror: this {words}\n")


@pytest.mark.parametrize(
    ("library", "verb"),
    [
        ("msgspec", ["sync"]),
        ("httpx", ["doctor"]),
        ("sqlalchemy", ["verify"]),
        ("sqlalchemy", ["pin", "--list"]),
        ("sqlalchemy", ["gc"]),
    ],
)
def test_a_verb_without_its_library_says_which_one_it_needs(library, verb, tmp_path):
    before = f"import os; os.environ['PICTOGRAPH_API_KEY'] = 'pk_live_x'\n{without(library)}"
    done = call("--root", str(tmp_path), *verb, before=before)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"mirror: this needs {library}, which is not installed; `pip install {library}`")
    assert len(done.stderr.splitlines()) == 1


def test_a_client_without_its_library_is_an_import_error_with_the_same_words():
    done = run(f"import sys\n{without('msgspec')}\nfrom registry_mirror import Client")
    assert done.stderr.splitlines()[-1].startswith("ImportError: Client needs msgspec, which is not installed; `pip")


def test_a_module_of_our_own_that_is_missing_is_a_fault():
    done = call("list", before="sys.modules['registry_mirror.mirror'] = None")
    assert done.returncode == 1
    assert done.stderr.startswith("mirror: a fault in registry-mirror: ModuleNotFoundError: ")


def test_a_python_without_sqlite_is_not_sent_to_the_package_index(tmp_path):
    (tmp_path / "index.sqlite").touch()
    done = call("--root", str(tmp_path), "list", before=without("sqlite3"))
    assert done.returncode == 2
    assert "Python's own module sqlite3, which this Python was built without" in done.stderr
