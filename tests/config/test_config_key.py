"""Where the API key comes from, and that nothing shows it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from registry_mirror.config import Loaded, describe_key, load_settings, read_api_key, show_json, show_rows
from registry_mirror.errors import ConfigurationError

KEY = "pk_live_hidden"
CURE = "; put the key on one line in it, readable by the user who runs the mirror"


def load(tmp_path: Path, toml: str = "") -> Loaded:
    (tmp_path / "config.toml").write_text(toml, "utf-8")
    return load_settings(root=tmp_path, env={})


def with_file(tmp_path: Path, data: bytes) -> Loaded:
    """A root whose key file holds `data`."""
    (tmp_path / "api.key").write_bytes(data)
    return load(tmp_path, '[upstream]\napi_key_file = "api.key"')


def refusal(loaded: Loaded, env: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_api_key(loaded.settings.upstream, env or {}, config=loaded.file)
    assert caught.value.exit_code == 2
    assert "hidden" not in str(caught.value)
    return str(caught.value)


def test_the_key_is_read_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = load(tmp_path).settings.upstream
    assert read_api_key(upstream, {"PICTOGRAPH_API_KEY": f" {KEY}\n"}).reveal() == KEY
    monkeypatch.setenv("PICTOGRAPH_API_KEY", KEY + "2")
    assert read_api_key(upstream).reveal() == KEY + "2"


def test_the_variable_may_have_another_name(tmp_path: Path) -> None:
    upstream = load(tmp_path, '[upstream]\napi_key_env = "VISION_KEY"').settings.upstream
    assert read_api_key(upstream, {"VISION_KEY": KEY, "PICTOGRAPH_API_KEY": "other"}).reveal() == KEY


@pytest.mark.parametrize("data", [KEY.encode(), f"\n {KEY}\r\n\n".encode(), b"\xef\xbb\xbf" + KEY.encode()])
def test_a_key_file_wins_over_the_variable_and_may_end_its_line(data: bytes, tmp_path: Path) -> None:
    upstream = with_file(tmp_path, data).settings.upstream
    assert read_api_key(upstream, {"PICTOGRAPH_API_KEY": "other"}).reveal() == KEY


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_key_may_come_through_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "api.key")
    upstream = load(tmp_path, '[upstream]\napi_key_file = "api.key"').settings.upstream
    writer = threading.Thread(target=(tmp_path / "api.key").write_text, args=(KEY,))
    writer.start()
    assert read_api_key(upstream, {}).reveal() == KEY
    writer.join()


@pytest.mark.parametrize("env", [{}, {"PICTOGRAPH_API_KEY": ""}, {"PICTOGRAPH_API_KEY": " \n"}])
def test_without_a_key_the_line_says_both_ways_to_give_one(env: dict[str, str], tmp_path: Path) -> None:
    line = refusal(load(tmp_path), env)
    assert line.startswith("no API key: the environment variable PICTOGRAPH_API_KEY is not set; ")
    assert "`export PICTOGRAPH_API_KEY=pk_live_…`" in line
    assert f"api_key_file under [upstream] in {tmp_path / 'config.toml'}" in line


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\xef\xbb\xbf\n", "is empty"),
        (f"{KEY}\n{KEY}".encode(), "has several lines or is too long for a key"),
        (f"{KEY}\rhidden".encode(), "has several lines or is too long for a key"),
        (b"hidden" * 1000, "has several lines or is too long for a key"),
        (f"key {KEY}".encode(), "has white space or a character that is not plain ASCII in it"),
        (f"{KEY}é".encode(), "has white space or a character that is not plain ASCII in it"),
        (f"{KEY}\x00x".encode(), "has white space or a character that is not plain ASCII in it"),
        (KEY.encode("utf-16"), "has white space or a character that is not plain ASCII in it"),
    ],
)
def test_a_key_file_without_one_sound_key_is_refused(data: bytes, problem: str, tmp_path: Path) -> None:
    line = refusal(with_file(tmp_path, data), {"PICTOGRAPH_API_KEY": KEY})
    assert line == f"upstream.api_key_file: {tmp_path / 'api.key'} {problem}{CURE}"


def test_a_quoted_key_is_refused_because_quotes_are_no_part_of_it(tmp_path: Path) -> None:
    line = refusal(with_file(tmp_path, f"'{KEY}'".encode()))
    assert line == f"upstream.api_key_file: {tmp_path / 'api.key'} has quotes around it{CURE}, without quotes"


def test_an_endless_key_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("the system has no /dev/zero")
    assert "too long for a key" in refusal(load(tmp_path, '[upstream]\napi_key_file = "/dev/zero"'))


def test_a_key_file_that_is_absent_a_folder_or_closed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(tmp_path, '[upstream]\napi_key_file = "api.key"')
    place = f"upstream.api_key_file: {tmp_path / 'api.key'}"
    assert refusal(loaded) == f"{place} does not exist{CURE}"
    (tmp_path / "api.key").mkdir()
    assert refusal(loaded) == f"{place} is a folder, not a file{CURE}"

    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # root, which tests in containers are, may read everything
    assert refusal(loaded) == f"{place} cannot be read (permission denied){CURE}"


@pytest.mark.parametrize("path", [KEY, f"./{KEY}", f"/etc/{KEY}"])
def test_a_key_in_place_of_the_files_path_is_refused_before_anything_prints_it(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, f'[upstream]\napi_key_file = "{path}"')
    assert str(caught.value) == (
        f"{tmp_path / 'config.toml'}: upstream.api_key_file looks like the API key itself; put the key in a file of "
        "its own, and give that file's path"
    )


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("a b", "has white space or"),
        ("é", "has white space or"),
        ("a\nb", "has white space or"),
        ('"a', "has quotes"),
        ("a'", "has quotes"),
    ],
)
def test_a_variable_that_cannot_be_a_key_is_refused_by_its_name(key: str, problem: str, tmp_path: Path) -> None:
    line = refusal(load(tmp_path), {"PICTOGRAPH_API_KEY": key})
    assert line.startswith(f"environment PICTOGRAPH_API_KEY: the API key {problem}")
    assert "; set PICTOGRAPH_API_KEY to the key alone" in line


def test_a_description_says_whether_and_where_and_never_what(tmp_path: Path) -> None:
    place = str(tmp_path / "api.key")
    variable = "environment PICTOGRAPH_API_KEY"
    env = {"PICTOGRAPH_API_KEY": KEY}
    assert describe_key(load(tmp_path).settings.upstream, {}) == ("not set", variable)
    assert describe_key(load(tmp_path).settings.upstream, env) == (f"set ({variable})", variable)
    assert describe_key(with_file(tmp_path, KEY.encode()).settings.upstream, env) == (f"set ({place})", place)
    state, origin = describe_key(with_file(tmp_path, b"").settings.upstream, env)
    assert (state, origin) == (f"not usable: upstream.api_key_file: {place} is empty", place)


SECRETS = """
[upstream]
proxy = "http://user:hidden@proxy.example:3128"
timeout = "90s"
[sync]
on_failure = ["curl", "-d", "two words", "https://hooks.example/services/hidden", "https://u:hidden@x/", "https://x"]
[[sync.rules]]
action = "exclude"
names = ["tmp-*", "*-draft"]
[[sync.rules]]
action = "include"
types = ["classification"]
"""


def test_rows_have_every_key_its_value_and_origin_with_secrets_masked(tmp_path: Path) -> None:
    loaded, file = load(tmp_path, SECRETS), str(tmp_path / "config.toml")
    rows = {row.key: (row.value, row.origin) for row in show_rows(loaded, ("set (here)", "here"))}
    assert list(rows)[3:5] == ["upstream.api_key_file", "upstream.api_key"]
    assert set(rows) == {*loaded.origins, "upstream.api_key"}
    assert rows["root"] == (str(tmp_path), "flag")
    assert rows["upstream.api_key"] == ("set (here)", "here")
    assert rows["upstream.proxy"] == ("http://****@proxy.example:3128", file)
    assert rows["upstream.timeout"] == ("1 min 30 s", file)
    assert rows["upstream.ca_file"] == ("none", "default")
    assert rows["upstream.allow_http"] == ("false", "default")
    assert rows["sync.formats"] == ("onnx", "default")
    command = "curl -d 'two words' https://hooks.example/**** https://****@x/ https://x"
    assert rows["sync.on_failure"] == (command, file)
    assert rows["sync.rules"] == ("exclude names=tmp-*,*-draft; include types=classification", file)
    assert "hidden" not in repr(rows)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("1203s", "20 min 3 s"),
        ("1.5s", "1.5 s"),
        ("0.2s", "0.2 s"),
        ("0s", "0 s"),
        ("1h", "1 h"),
        ("3599.5s", "3599.5 s"),
    ],
)
def test_a_duration_is_shown_exactly(written: str, shown: str, tmp_path: Path) -> None:
    loaded = load_settings(root=tmp_path, env={}, overrides={"sync.publish_every": written})
    assert {row.key: row.value for row in show_rows(loaded, ("", ""))}["sync.publish_every"] == shown


def test_a_long_duration_is_shown_without_dropping_any_of_it(tmp_path: Path) -> None:
    loaded = load_settings(root=tmp_path, env={}, overrides={"daemon.every": "1d2h3m4s"})
    assert {row.key: row.value for row in show_rows(loaded, ("", ""))}["daemon.every"] == "93784 s"


def test_json_has_the_values_as_json_with_secrets_masked(tmp_path: Path) -> None:
    shown = show_json(load(tmp_path, SECRETS), ("set (here)", "here"))["settings"]
    values = {key: row["value"] for key, row in shown.items()}
    assert shown["upstream.timeout"] == {"value": 90.0, "origin": str(tmp_path / "config.toml")}
    assert shown["upstream.api_key"] == {"value": "set (here)", "origin": "here"}
    assert (values["root"], values["sync.formats"], values["sync.workers"]) == (str(tmp_path), ["onnx"], 8)
    assert (values["upstream.ca_file"], values["upstream.allow_http"]) == (None, False)
    assert values["upstream.proxy"] == "http://****@proxy.example:3128"
    assert values["sync.rules"] == [
        {"action": "exclude", "names": ["tmp-*", "*-draft"]},
        {"action": "include", "types": ["classification"]},
    ]
    assert "hidden" not in repr(shown)
