"""`mirror config check` and `mirror config show`."""

from __future__ import annotations

import json
import signal
import socket
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from registry_mirror import cli
from registry_mirror.cli.config import command
from registry_mirror.cli.options import GlobalOptions
from registry_mirror.config import OPTIONS
from registry_mirror.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

KEY = "pk_live_hidden"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the box that runs the tests do not reach them, and nothing here may use the network."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("MIRROR_ROOT", "MIRROR_CONFIG", *(name for option in OPTIONS for name in option.env_names)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PICTOGRAPH_API_KEY", KEY)


def run(root: Path, *arguments: str, config: Path | None = None) -> Result:
    options = GlobalOptions(root=str(root), config=None if config is None else str(config))
    return CliRunner().invoke(command, arguments, obj=options)


def said(root: Path, *arguments: str) -> str:
    result = run(root, *arguments)
    assert result.exception is None, result.exception
    assert (result.exit_code, result.stderr) == (0, "")
    assert "hidden" not in result.stdout
    return result.stdout


def test_check_says_ok_in_one_line_with_the_file_and_the_upstream(tmp_path: Path) -> None:
    upstream = "https://api.pictograph.io"
    line = f"ok: no config.toml, so the defaults and the environment; root {tmp_path}; upstream {upstream}\n"
    assert said(tmp_path, "check") == line
    (tmp_path / "config.toml").touch()
    assert said(tmp_path, "check") == f"ok: {tmp_path / 'config.toml'}; root {tmp_path}; upstream {upstream}\n"


def test_check_json_has_its_four_keys(tmp_path: Path) -> None:
    url = "https://api.pictograph.io"
    assert json.loads(said(tmp_path, "check", "--json")) == {
        "ok": True,
        "file": None,
        "root": str(tmp_path),
        "base_url": url,
    }
    (tmp_path / "config.toml").touch()
    assert json.loads(said(tmp_path, "check", "--json"))["file"] == str(tmp_path / "config.toml")


def test_check_reads_the_file_that_the_flag_names(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text('[upstream]\nbase_url = "https://other.example"')
    result = run(tmp_path, "check", config=file)
    assert result.stdout == f"ok: {file}; root {tmp_path}; upstream https://other.example\n"


def test_check_writes_nothing(tmp_path: Path) -> None:
    said(tmp_path / "root", "check")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("[sync]\nworkers = 0", "sync.workers is 0, out of range"),
        ('[upstream]\napi_key_file = "absent"', "upstream.api_key_file: "),
        ('[upstream]\nca_file = "config.toml"', "config.toml holds no certificates; name a readable file"),
        (
            '[sync]\non_failure = "no-such-program-anywhere x"',
            "sync.on_failure names 'no-such-program-anywhere', which",
        ),
    ],
)
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_check_raises_the_mistake_for_the_main_program_to_say(
    toml: str, problem: str, flags: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(toml)
    result = run(tmp_path, "check", *flags)
    assert isinstance(result.exception, ConfigurationError)
    assert problem in str(result.exception)
    assert result.output == ""


def test_check_fails_without_a_key_and_show_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PICTOGRAPH_API_KEY")
    result = run(tmp_path, "check")
    assert isinstance(result.exception, ConfigurationError)
    assert str(result.exception).endswith(f"under [upstream] in {tmp_path / 'config.toml'}")
    assert "upstream.api_key " in said(tmp_path, "show")


def test_check_accepts_a_program_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[sync]\non_failure = "python3 -c pass"')
    assert said(tmp_path, "check").startswith("ok: ")


def test_show_prints_an_aligned_line_for_every_key(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[upstream]\nproxy = "http://u:hidden@proxy"')
    lines = said(tmp_path, "show").splitlines()
    assert len(lines) == len(OPTIONS) + 1
    words = {line.split("  ")[0].strip(): line for line in lines}
    assert set(words) == {option.key for option in OPTIONS} | {"upstream.api_key"}
    assert words["upstream.proxy"].split() == ["upstream.proxy", "http://****@proxy", str(tmp_path / "config.toml")]
    assert "set (environment PICTOGRAPH_API_KEY)" in words["upstream.api_key"]
    column = words["sync.workers"].index("default")
    assert all(line[column - 2 : column] == "  " and line[column] != " " for line in lines)


def test_show_json_has_a_value_and_an_origin_for_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_SYNC_WORKERS", "7")
    shown = json.loads(said(tmp_path, "show", "--json"))
    assert list(shown) == ["settings"]
    assert set(shown["settings"]) == {option.key for option in OPTIONS} | {"upstream.api_key"}
    assert shown["settings"]["sync.workers"] == {"value": 7, "origin": "environment MIRROR_SYNC_WORKERS"}
    assert shown["settings"]["root"] == {"value": str(tmp_path), "origin": "flag"}


@pytest.mark.parametrize("verb", [[], ["check"], ["show"]])
def test_each_has_help(verb: list[str]) -> None:
    result = CliRunner().invoke(command, [*verb, "--help"], obj=GlobalOptions())
    assert result.exit_code == 0
    assert ("--json" in result.stdout) is bool(verb)


VERBS = [
    ["config", "check"],
    ["config", "show"],
    ["daemon"],
    ["delete", "x", "--yes"],
    ["doctor", "--offline"],
    ["download", "x", "-o", "m"],
    ["gc", "--dry-run"],
    ["gc"],
    ["get", "x"],
    ["keys", "add", "box"],
    ["keys", "list"],
    ["list"],
    ["path", "x"],
    ["pin", "--list"],
    ["pin", "x"],
    ["serve", "--port", "0"],
    ["status"],
    ["sync"],
    ["sync", "--dry-run"],
    ["verify"],
]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_root_that_is_a_file_is_one_error_for_every_verb(
    tmp_path: Path, verb: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PICTOGRAPH_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    root = tmp_path / "root"
    root.touch()
    try:
        code = cli.run(["--root", str(root), *verb])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    line = f"mirror: the root {root} is not a folder; name a folder with --root or MIRROR_ROOT\n"
    assert (code, capsys.readouterr()) == (2, ("", line))
    assert [each.name for each in tmp_path.iterdir()] == ["root"]
