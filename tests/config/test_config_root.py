"""Which folder is the root, and that finding it costs little."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path, PurePosixPath

import platformdirs
import pytest
from support.syncing import base_environment, mirror

from registry_mirror.config import default_root, load_settings, resolve_root
from registry_mirror.config.root import _distrust
from registry_mirror.errors import ConfigurationError


def test_the_root_is_the_flag_then_the_variable_then_the_named_file_then_the_default(tmp_path: Path) -> None:
    file = tmp_path / "named.toml"
    file.write_text('root = "from-file"')
    env = {"XDG_DATA_HOME": str(tmp_path)}
    named = env | {"MIRROR_ROOT": str(tmp_path / "from-env")}
    for flag, config, environment, root, origin in [
        (tmp_path / "from-flag", file, named, tmp_path / "from-flag", "flag"),
        (None, file, named, tmp_path / "from-env", "environment MIRROR_ROOT"),
        (None, file, env, tmp_path / "from-file", str(file)),
        (None, None, env | {"MIRROR_CONFIG": str(file)}, tmp_path / "from-file", str(file)),
        (None, None, env, tmp_path / "registry-mirror", "default"),
    ]:
        loaded = load_settings(root=flag, config=config, env=environment)
        assert (loaded.settings.root, loaded.origins["root"]) == (root, origin)
        assert resolve_root(flag, config, environment) == root


def test_a_root_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert resolve_root("a/../b", None, {}) == tmp_path / "b"
    assert resolve_root("~/models", None, {}) == tmp_path / "home" / "models"
    assert resolve_root(None, None, {"MIRROR_ROOT": "c"}) == tmp_path / "c"


def test_a_root_that_was_named_needs_no_file(tmp_path: Path) -> None:
    assert resolve_root(tmp_path, None, {"MIRROR_CONFIG": str(tmp_path / "absent.toml")}) == tmp_path
    assert resolve_root(None, None, {"MIRROR_ROOT": str(tmp_path), "MIRROR_CONFIG": "/absent"}) == tmp_path


def test_a_roots_own_file_may_repeat_the_root_and_not_name_another(tmp_path: Path) -> None:
    for root in (str(tmp_path), "."):
        (tmp_path / "config.toml").write_text(f'root = "{root}"')
        assert load_settings(root=tmp_path, env={}).settings.root == tmp_path
    (tmp_path / "config.toml").write_text('root = "/x"')
    with pytest.raises(ConfigurationError, match=r"but this file was found through the root .*; remove root from it"):
        load_settings(root=tmp_path, env={})


@pytest.mark.parametrize("value", ["5", '""', '"a\\u0000"'])
def test_a_root_that_is_no_path_is_refused_even_where_a_flag_wins(value: str, tmp_path: Path) -> None:
    file = tmp_path / "named.toml"
    file.write_text(f"root = {value}")
    for read in (
        lambda: load_settings(root=tmp_path, config=file, env={}),
        lambda: resolve_root(None, file, {}),
    ):
        with pytest.raises(ConfigurationError, match="not a path in quotes; write it like root") as caught:
            read()
        assert str(caught.value).startswith(f"{file}: root is ")


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (("", None, {}), "--root"),
        ((None, " ", {}), "--config"),
        ((None, None, {"MIRROR_ROOT": ""}), "environment MIRROR_ROOT"),
        ((None, None, {"MIRROR_CONFIG": ""}), "environment MIRROR_CONFIG"),
    ],
)
def test_an_empty_root_or_file_is_refused(arguments: tuple[str | None, str | None, dict[str, str]], place: str) -> None:
    line = f"{place} is empty or no path; give it a path, or leave it out"
    with pytest.raises(ConfigurationError) as caught:
        resolve_root(*arguments)
    assert str(caught.value) == line
    with pytest.raises(ConfigurationError) as caught:
        load_settings(root=arguments[0], config=arguments[1], env=arguments[2])
    assert str(caught.value) == line


@pytest.mark.parametrize("data", [None, "/data", "relative", ""])
@pytest.mark.parametrize("home", ["/home/mira", "relative", None])
def test_the_default_root_is_the_one_that_platformdirs_names(
    data: str | None, home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("XDG_DATA_HOME", data), ("HOME", home)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert str(default_root()) == platformdirs.user_data_dir("registry-mirror", appauthor=False)


def test_the_default_root_of_the_other_systems() -> None:
    mac = default_root({"HOME": "/Users/mira"}, "darwin")
    assert PurePosixPath(mac) == PurePosixPath("/Users/mira/Library/Application Support/registry-mirror")
    windows = default_root({"LOCALAPPDATA": "C:/Users/mira/AppData/Local"}, "win32")
    assert windows.as_posix() == "C:/Users/mira/AppData/Local/registry-mirror"


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("resolve_root('/srv/models')", ("tomllib", "difflib", "registry_mirror.config.load")),
        ("load_settings(root='/nowhere/at/all')", ("tomllib", "difflib", "shlex", "ssl")),
    ],
)
def test_reading_the_configuration_imports_little_and_only_the_standard_library(
    code: str, absent: tuple[str, ...]
) -> None:
    script = (
        "import sys, registry_mirror; before = set(sys.modules)\n"
        f"from registry_mirror.config import {code.partition('(')[0]} as read; read({code.partition('(')[2]}\n"
        "print(*(set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", script], env={"HOME": "/"}, capture_output=True, text=True, check=True)
    imported = set(run.stdout.split())
    assert "registry_mirror.config.root" in imported
    assert imported.isdisjoint(absent)
    assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names == {"registry_mirror"}


# -- a root's own file, which nobody named --------------------------------------------------------------------------


def shared(tmp_path, text="[sync]\nworkers = 3\n"):
    """A root that a group shares, with a configuration."""
    root = tmp_path / "shared"
    root.mkdir()
    root.chmod(0o2775)
    file = root / "config.toml"
    file.write_text(text)
    return root, file


def test_a_folder_that_others_may_write_does_not_matter(tmp_path):
    root, _ = shared(tmp_path)
    assert load_settings(root=root, env={}).settings.sync.workers == 3


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o620])
def test_a_file_that_others_may_write_does_not_count(tmp_path, mode):
    root, file = shared(tmp_path)
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match="others than its owner may write it") as caught:
        load_settings(root=root, env={})
    assert "--config" in str(caught.value.hint)
    assert "chmod go-w" in str(caught.value.hint)
    assert load_settings(root=root, config=file, env={}).settings.sync.workers == 3  # somebody vouches for it


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others, which root alone may")
def test_a_file_of_another_account_does_not_count(tmp_path):
    root, file = shared(tmp_path)
    os.chown(file, 12345, -1)
    with pytest.raises(ConfigurationError, match="it belongs to account 12345") as caught:
        load_settings(root=root, env={})
    assert "--config" in str(caught.value.hint)


def test_a_file_of_root_counts_for_everybody():
    found = os.stat_result((0o100644, 1, 1, 1, 0, 0, 1, 0, 0, 0))
    assert _distrust(found, 12345) is None
    assert _distrust(os.stat_result((0o100644, 1, 1, 1, 77, 0, 1, 0, 0, 0)), 12345) is not None


@pytest.mark.parametrize("kind", ["link", "dangling link", "second name", "FIFO", "socket", "folder"])
def test_what_is_no_plain_file_of_one_name_does_not_count_and_holds_nobody_up(tmp_path, kind):
    root, file = shared(tmp_path)
    elsewhere = tmp_path / "elsewhere.toml"
    file.rename(elsewhere)
    with contextlib.ExitStack() as stack:
        if kind in ("link", "dangling link"):
            file.symlink_to(elsewhere if kind == "link" else "nowhere")
        elif kind == "second name":
            file.hardlink_to(elsewhere)
        elif kind == "FIFO":
            os.mkfifo(file)
        elif kind == "socket":
            stack.enter_context(socket.socket(socket.AF_UNIX)).bind(str(file))
        else:
            file.mkdir()
        with pytest.raises(ConfigurationError) as caught:
            load_settings(root=root, env={})
    assert "--config" in str(caught.value.hint)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others, which root alone may")
def test_nothing_goes_where_a_planted_file_says_and_nothing_runs(tmp_path, upstream):
    """Every verb that reads settings ends with 2, and the planted upstream hears nothing."""
    mark = tmp_path / "ran"
    text = f'[upstream]\nbase_url = "{upstream.base_url}"\n[sync]\non_failure = "/usr/bin/touch {mark}"\n'
    root, file = shared(tmp_path, text)
    os.chown(file, 12345, 12345)
    env = {**base_environment(), "PICTOGRAPH_API_KEY": "pk_live_secret"}
    for verb in (
        ["sync"],
        ["daemon", "--once"],
        ["gc"],
        ["verify"],
        ["delete", "x", "--yes"],
        ["serve", "--port", "0"],
        ["doctor"],
    ):
        done = mirror("--root", str(root), *verb, env=env)
        assert done.returncode == (1 if verb == ["doctor"] else 2), (verb, done.stderr)
    assert not mark.exists()
    assert not upstream.requests.entries
