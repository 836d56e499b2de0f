"""A wheel, an sdist and an editable install each work in an empty environment, away from the checkout.

Everything is made once a session, whatever the number of workers, and from a copy: builds leave their litter there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

from registry_mirror import __version__
from registry_mirror.catalog.migration import HEAD

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
KINDS = ("wheel", "sdist", "editable")


def run(*command: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    """What a command prints; its standard error is shown when it fails."""
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def sources() -> list[Path]:
    """What a commit of everything would hold, relative. Outside of git, whatever .gitignore does not name."""
    if (ROOT / ".git").exists():
        listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
        return [Path(name) for name in listed if name and (ROOT / name).is_file()]
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()]
    found = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
    return [path for path in found if not any(Path(part).match(name) for part in path.parts for name in ignored)]


def copy_sources(target: Path) -> Path:
    """A clean copy of the checkout."""
    for path in sources():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target / path)
    return target


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """`once(name, make)` is a folder that `make` has filled, for all workers of this session."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "packaging"
    shared.mkdir(exist_ok=True)

    def folder(name, make):
        with FileLock(shared / f"{name}.lock"):
            if not (shared / name).exists():
                # Renamed when it is done: a build that failed fails again for the next test, with its own words.
                unfinished = shared / f"{name}.unfinished"
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(shared / name)
        return shared / name

    return folder


def build(tree: Path, out: Path, *what: str) -> str:
    """Builds in an isolated environment. Returns what it printed."""
    command = [sys.executable, "-m", "build", *what, "--outdir", str(out), str(tree)]
    env = {**os.environ, "PYTHONWARNINGS": "always"}
    done = subprocess.run(
        command, cwd=out, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def built(once):
    """A folder with one wheel, one sdist, the copy that they were built from as `tree`, and what the builds printed."""

    def make(folder):
        printed = build(copy_sources(folder / "tree"), folder, "--wheel")
        printed += build(copy_sources(folder / "for-sdist"), folder, "--sdist")
        (folder / "printed").write_text(printed)

    return once("built", make)


@pytest.fixture(scope="session")
def wheel(built):
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def sdist(built):
    (found,) = built.glob("*.tar.gz")
    return found


def members_of_wheel(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def members_of_sdist(path: Path) -> set[str]:
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


class Environment:
    """A virtual environment in which nothing is installed, not even pip."""

    def __init__(self, home: Path) -> None:
        self.home = home

    @property
    def python(self) -> Path:
        return self.home / "bin" / "python"

    def create(self) -> None:
        run(sys.executable, "-m", "venv", "--without-pip", self.home, cwd=self.home.parent)
        (site,) = self.home.glob("lib/python3*/site-packages")
        assert list(site.iterdir()) == []

    def pip(self, *arguments: object) -> None:
        run(sys.executable, "-m", "pip", "--python", self.python, "--quiet", *arguments, cwd=self.home)

    def install(self, *what: object) -> None:
        # Python compiles what is imported. Compiling all of it would take most of the time.
        self.pip("install", "--no-compile", *what)

    def run(self, command: str, *arguments: object, cwd: Path) -> str:
        """Runs one of its commands in `cwd`, with nothing of the caller's environment."""
        env = {"PATH": f"{self.home / 'bin'}:/usr/bin:/bin", "HOME": str(cwd), "TMPDIR": str(cwd)}
        return run(self.home / "bin" / command, *arguments, cwd=cwd, env=env)

    def files(self) -> set[str]:
        return {str(path.relative_to(self.home)) for path in self.home.rglob("*")}


@pytest.fixture(scope="session", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def installed(kind, once, built, wheel, sdist):
    """An environment into which pip has put us and all that we need."""
    # Made in its final place, because a virtual environment cannot be moved.
    home = once(f"home-{kind}", lambda folder: None) / "venv"

    def make(_folder):
        shutil.rmtree(home, ignore_errors=True)
        fresh = Environment(home)
        fresh.create()
        fresh.install(*{"wheel": [wheel], "sdist": [sdist], "editable": ["--editable", built / "tree"]}[kind])

    once(f"installed-{kind}", make)
    return Environment(home)


def test_the_wheel_holds_the_package_its_data_and_its_licence(wheel):
    members = members_of_wheel(wheel)
    expected = {path for path in sources() if path.parts[0] == "registry_mirror"}
    expected |= {"registry_mirror" / path for path in sources() if path.parts[0] == "migrations"}
    info = f"registry_mirror-{__version__}.dist-info"
    assert {name for name in members if not name.startswith(info)} == {str(path) for path in expected}
    assert {"registry_mirror/py.typed", "registry_mirror/migrations/script.py.mako"} <= members
    assert {"registry_mirror/migrations/env.py", "registry_mirror/demo/models/forklift-finder.onnx"} <= members
    assert any(name.startswith("registry_mirror/migrations/versions/0001") for name in members)
    assert f"{info}/licenses/LICENSE" in members


def test_the_sdist_holds_every_source_file(sdist):
    members = members_of_sdist(sdist)
    assert {str(path) for path in sources()} - members == set()
    assert {"README.md", "CHANGELOG.md", "config.example.toml", "Makefile", ".ci/run"} <= members
    for folder in ("docs", "migrations/versions", "tests/support", "benchmarks"):
        assert any(name.startswith(f"{folder}/") for name in members), folder
    assert not any("__pycache__" in name for name in members)


def test_a_wheel_built_from_the_sdist_is_the_wheel_built_from_the_checkout(wheel, sdist, tmp_path):
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, sdist, cwd=tmp_path)
    (again,) = tmp_path.glob("*.whl")
    assert again.name == wheel.name
    with zipfile.ZipFile(again) as ours, zipfile.ZipFile(wheel) as theirs:
        assert {entry.filename: entry.CRC for entry in ours.infolist()} == {
            entry.filename: entry.CRC for entry in theirs.infolist()
        }


def test_a_build_reads_the_version_without_importing_the_package(tmp_path):
    tree = copy_sources(tmp_path / "tree")
    package = tree / "registry_mirror" / "__init__.py"
    package.write_text(package.read_text() + "\nraise SystemExit('imported by the build')\n")
    build(tree, tmp_path, "--wheel")
    assert [path.name for path in tmp_path.glob("*.whl")] == [f"registry_mirror-{__version__}-py3-none-any.whl"]


def test_the_build_has_nothing_to_warn_of(built):
    said = (built / "printed").read_text().splitlines()
    assert "copying registry_mirror/py.typed" in " ".join(said)
    # Of the machine's pip configuration and environment, and of a manifest whose exclusions find nothing to exclude.
    noise = (
        "is ignored: it is neither a file nor a directory",
        "byte-compiling is disabled",
        "no previously-included files matching",
    )
    warned = [line for line in said if "warning" in line.lower() or "deprecat" in line.lower()]
    assert [line for line in warned if not any(known in line for known in noise)] == []


def test_the_command_and_the_module_answer(installed, tmp_path):
    assert installed.run("mirror", "--version", cwd=tmp_path).split()[-1] == __version__
    assert "sync" in installed.run("python", "-m", "registry_mirror", "--help", cwd=tmp_path)


def test_the_demo_downloads_nothing_the_second_time(installed, tmp_path):
    story = json.loads(installed.run("mirror", "demo", "--json", cwd=tmp_path))
    assert story["first"]["fetched"]["files"] == 3
    assert story["second"]["fetched"]["bytes"] == 0
    assert story["second"]["requests"]["storage"] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_catalog_is_migrated_with_the_migrations_that_were_installed(kind, built, installed, tmp_path):
    code = (
        "import pathlib, registry_mirror.migrations as migrations\n"
        "from registry_mirror.catalog.migration import migrate, revision_of\n"
        "path = pathlib.Path('catalog.sqlite')\n"
        "migrate(path)\n"
        "print(revision_of(path), migrations.__file__)"
    )
    revision, _, where = installed.run("python", "-c", code, cwd=tmp_path).strip().partition(" ")
    assert revision == HEAD
    assert Path(where).is_relative_to(built / "tree" if kind == "editable" else installed.home)


@pytest.mark.parametrize("form", KINDS)
def test_an_uninstall_leaves_the_environment_as_it_was(form, wheel, sdist, tmp_path):
    fresh = Environment(tmp_path / "venv")
    fresh.create()
    before = fresh.files()
    tree = copy_sources(tmp_path / "tree")
    fresh.install("--no-deps", *{"wheel": [wheel], "sdist": [sdist], "editable": ["--editable", tree]}[form])
    assert len(fresh.files()) > len(before)
    fresh.run("python", "-c", "import registry_mirror.migrations", cwd=tmp_path)
    fresh.pip("uninstall", "--yes", "registry-mirror")
    assert fresh.files() - before == set()
