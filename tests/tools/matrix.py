"""The suite on every Python that is here, and on the oldest libraries that are allowed.

    python tests/tools/matrix.py [smoke | full]

Each has an environment of its own under .envs/matrix. A Python that is not here is skipped, and told. The lowest
versions are those of pyproject.toml's lower bounds, on the oldest Python that is here.
"""

from __future__ import annotations

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
    """Whether a Python of this name starts; a shim of a version that is not there does not."""
    return (
        shutil.which(program) is not None
        and subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode == 0
    )


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
        subprocess.run([program, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    # Some development tools need newer libraries than ours; the smoke does without them.
    wanted = [f"{TOP}[dev]"] if not constraints else [f"{TOP}[serve]", *constraints, *TOOLS]
    if subprocess.run([*pip, "--editable", *wanted], check=False).returncode != 0:
        print(f"{name}: FAILED to install", flush=True)
        return False
    command = [str(python), "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *tests]
    ok = subprocess.run(command, cwd=TOP, check=False).returncode == 0
    print(f"{name}: {'ok' if ok else 'FAILED'}", flush=True)
    return ok


def main() -> int:
    """Runs all of it; 1 when any failed."""
    tests = ("tests",) if sys.argv[1:] == ["full"] else SMOKE
    here = [each for each in VERSIONS if works(f"python{each}")]
    for version in VERSIONS:
        if version not in here:
            print(f"python{version}: skipped, there is none on this machine", flush=True)
    if not here:
        print("there is no Python 3.11 or newer", file=sys.stderr)
        return 1
    results = [run(version, f"python{version}", [], tests) for version in here]
    results.append(run("lowest", f"python{here[0]}", lowest(), SMOKE))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
