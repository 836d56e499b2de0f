"""The suite on every Python that is here, and on the oldest libraries that are allowed.

    python tests/tools/matrix.py [others | smoke | full]

Each has an environment of its own under .envs/matrix. A Python that is not here, neither on PATH nor in pyenv, is
skipped, and told. The lowest versions are those of pyproject.toml's lower bounds, on the oldest Python that is here.

`smoke` runs a part of the suite; `others` does so without the Python that runs this, which has run all of it in CI.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

TOP = Path(__file__).parents[2]
TOOLS = ("hypothesis", "pytest>=8", "pytest-timeout", "pytest-xdist", "trustme")
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
SMOKE = (
    "tests/project/test_architecture.py", "tests/catalog", "tests/index/test_index_publish.py",
    "tests/index/test_mirror.py",
    "tests/sources/test_sources.py", "tests/transfer/test_resume.py", "tests/server/test_server_models.py",
    "tests/config/test_config.py",
)  # fmt: skip


def works(program: str) -> bool:
    """Returns whether this Python starts. A pyenv shim exists also for a version that is not chosen."""
    return (
        shutil.which(program) is not None
        and subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode == 0
    )


def program_of(version: str) -> str | None:
    """Returns a Python of this version on PATH or in pyenv, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python{version}")))
    return next((each for each in (f"python{version}", *installed) if works(each)), None)


def lowest() -> list[str]:
    """`package==lower bound` for each direct dependency."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    given = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    return [f"{found[1]}=={found[2]}" for each in given if (found := re.match(r"([\w-]+)>=([\d.]+)", each))]


def run(name: str, program: str, constraints: list[str], tests: tuple[str, ...]) -> bool:
    """Sets the environment up and runs the tests in it."""
    folder = TOP / ".envs" / "matrix" / name
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([program, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet", "--disable-pip-version-check", "install"]
    # Some development tools need newer libraries than ours, and the smoke does without them.
    wanted = [f"{TOP}[dev]"] if tests != SMOKE else [f"{TOP}[serve]", *constraints, *TOOLS]
    # Python compiles what is imported. Compiling all of it would take longer than the tests.
    if subprocess.run([*pip, "--no-compile", "--editable", *wanted], check=False).returncode != 0:
        print(f"{name}: FAILED to install", flush=True)
        return False
    command = [str(python), "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "--no-header", *tests]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    ok = subprocess.run(command, cwd=TOP, env=env, check=False).returncode == 0
    print(f"{name}: {'ok' if ok else 'FAILED'}", flush=True)
    return ok


def main() -> int:
    """Runs all of it; 1 when any failed."""
    tests = ("tests",) if sys.argv[1:] == ["full"] else SMOKE
    here = {version: found for version in VERSIONS if (found := program_of(version))}
    for version in VERSIONS:
        if version not in here:
            print(f"python{version}: skipped, there is none on this machine", flush=True)
    own = "{}.{}".format(*sys.version_info) if sys.argv[1:] == ["others"] else ""
    results = [run(version, found, [], tests) for version, found in here.items() if version != own]
    results.append(run("lowest", next(iter(here.values()), sys.executable), lowest(), SMOKE))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
