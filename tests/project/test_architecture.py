"""Who may import whom, and what stays out of start-up."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.roots import Root

import registry_mirror

PACKAGE = Path(registry_mirror.__file__).parent
ROOT = PACKAGE.parent

FOUNDATION = {
    "damage", "environment", "errors", "model", "files", "digests", "log", "secret", "streams", "systemd", "units",
    "urls",
}  # fmt: skip
NOUNS = {"sources", "transfer", "catalog", "store", "index"}
ALLOWED = {
    **dict.fromkeys(FOUNDATION, FOUNDATION),
    **{room: FOUNDATION | {room} for room in NOUNS},
    "sources": FOUNDATION | {"sources", "transfer"},
    "config": FOUNDATION | {"config"},
    "demo": FOUNDATION | {"demo"},
    "explain": FOUNDATION | {"index"},
    "lookup": FOUNDATION | {"index", "explain"},
    "status": FOUNDATION | {"index", "store"},
    "mirror": FOUNDATION | {"index", "store", "explain", "lookup", "status", "config"},
    "server": FOUNDATION | {"index", "store", "config", "explain", "status", "server", "__version__"},
    "writer": FOUNDATION | {"config", "catalog", "index", "store", "sources"},
    "sync": FOUNDATION | NOUNS | {"config", "sync", "writer"},
    "upkeep": FOUNDATION | NOUNS | {"config", "status", "sync", "upkeep", "writer"},
    "migrations": {"catalog"},
}
ALLOWED["catalog"] |= {"migrations"}


def imports_of(path: Path) -> set[str]:
    """Rooms of this package that a module imports, inside functions too, but not for types only."""
    package = path.parent.relative_to(PACKAGE).parts
    found = set()
    for node in runtime_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            module = [*base, *(node.module or "").split(".")]
            names = [part for part in module if part] or [alias.name for alias in node.names]
            found |= {names[0]} if (base or node.module) else set(names)
    return found


def runtime_nodes(tree: ast.AST):
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from runtime_nodes(child)


@pytest.mark.parametrize("room", sorted(set(ALLOWED) - {"migrations"}))
def test_a_room_imports_only_what_it_may(room):
    modules = sorted((PACKAGE / room).rglob("*.py")) if (PACKAGE / room).is_dir() else [PACKAGE / f"{room}.py"]
    assert modules
    for module in modules:
        strangers = imports_of(module) - ALLOWED[room]
        assert not strangers, f"{module.relative_to(ROOT)} imports {strangers}"


def test_the_check_sees_an_import_that_is_not_allowed():
    assert "sources" in imports_of(PACKAGE / "sync" / "opening.py")
    assert {"store", "catalog"} <= imports_of(PACKAGE / "sync" / "fetch.py") - ALLOWED["index"]


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


HEAVY = {"httpx", "sqlalchemy", "alembic", "filelock", "msgspec", "rich", "tenacity", "granian", "starlette", "jinja2"}


def test_importing_the_package_and_a_mirror_brings_the_standard_library_only(tmp_path):
    code = f"import registry_mirror; registry_mirror.Mirror({str(tmp_path)!r})"
    assert modules_after(code) & (HEAVY | {"click"}) == set()


def test_a_client_is_imported_on_first_use_only():
    assert "httpx" not in modules_after("import registry_mirror")
    assert "httpx" in modules_after("import registry_mirror; registry_mirror.Client")


@pytest.mark.parametrize("verb", ["list", "get", "path", "download", "status"])
def test_a_reading_verb_imports_nothing_heavy(verb):
    code = (
        "import contextlib, registry_mirror.cli\n"
        f"with contextlib.redirect_stdout(None): registry_mirror.cli.run([{verb!r}, '--help'])"
    )
    assert modules_after(code) & HEAVY == set()


STARTED = (
    "import contextlib, os, sys\n"
    "import registry_mirror.cli as cli\n"
    "with open(os.devnull, 'w') as nothing, contextlib.redirect_stdout(nothing):\n"
    "    code = cli.run(['--root', {root!r}, 'path', 'forklifts'])\n"
    "assert code == 0, code\n"
)
NEEDLESS = {"logging", "secrets", "socket", "ssl", "hashlib", "random", "tomllib", "tempfile", "subprocess", "asyncio"}


def test_a_path_on_the_command_line_brings_no_module_that_it_does_not_use(tmp_path):
    """Half of its time is start-up, and scripts call it once for each model."""
    root = Root(tmp_path)
    root.add("forklifts")
    root.publish()
    found = modules_after(STARTED.format(root=str(tmp_path)))
    assert found & (HEAVY | NEEDLESS) == set()
    ours = {name.removeprefix("registry_mirror.") for name in found if name.startswith("registry_mirror.")}
    assert ours & {"status", "digests", "files", "store.deliver", "store.blobs", "cli.list", "config.settings"} == set()
    assert {"cli.path", "mirror", "index.reader"} <= ours


@pytest.mark.parametrize("module", ["sources.api.client", "sync.run", "store.lock", "store.adopt", "server.middleware"])
def test_a_program_that_asked_for_no_log_gets_none(module):
    code = (
        f"import registry_mirror.{module}, logging\n"
        "for room in ('upstream', 'store', 'server'): logging.getLogger(f'registry_mirror.{room}').error('said')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_every_module_that_writes_to_the_log_silences_it_first():
    """By `log.logger`, or in a package whose first module does."""
    bare = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"""^_\w*log = logging\.getLogger\("registry_mirror""", path.read_text(), re.MULTILINE)
    }
    assert bare <= {"transfer/body.py", "transfer/download.py", "sync/pool.py"}


def test_every_package_on_disk_is_in_the_wheel_list():
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    on_disk = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert listed == on_disk | {"registry_mirror.migrations", "registry_mirror.migrations.versions"}


def test_no_module_is_long():
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path.name: length for path, length in lengths.items() if length > 400} == {}


SAME_MEANING = {
    # A file of cli/ is the verb; the other one does it, or serves it.
    "daemon", "download", "status",
    # What each room has of its own: its tables, its plan, its record, the run that carries it out, its errors.
    "schema", "plan", "record", "run", "errors", "settings", "models", "weights",
    # Fetching weights: for a sync, for a client that waits.
    "fetch",
    # The folder that holds all: found by the configuration, made by the store, probed by the doctor.
    "root",
    # What the demo answers, and what the server does.
    "answers",
}  # fmt: skip


def test_a_public_class_name_means_one_thing():
    homes: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(path.relative_to(PACKAGE).as_posix())
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_two_modules_share_a_name_only_where_they_share_its_meaning():
    homes: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if path.stem != "__init__":
            homes.setdefault(path.stem, []).append(path.relative_to(PACKAGE).as_posix())
    assert {name for name, places in homes.items() if len(places) > 1} == SAME_MEANING
