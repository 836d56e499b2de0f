"""config.toml, environment and flags become one `Settings`, the strongest first."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry_mirror.config import OPTIONS, Loaded, Rule, load_settings


def load(folder: Path, toml: str = "", env: dict[str, str] | None = None, **flags: object) -> Loaded:
    """The settings of a root whose config.toml is `toml`; flags are `section__key=value`."""
    if toml:
        (folder / "config.toml").write_text(toml, "utf-8")
    overrides = {name.replace("__", "."): value for name, value in flags.items()}
    return load_settings(root=folder, env=env or {}, overrides=overrides)


def test_with_nothing_set_every_value_is_its_default(tmp_path: Path) -> None:
    loaded = load_settings(env={"XDG_DATA_HOME": str(tmp_path)})
    settings = loaded.settings
    assert loaded.file is None
    assert dict(loaded.origins) == {option.key: "default" for option in OPTIONS}
    assert settings.root == tmp_path / "registry-mirror"
    assert settings.upstream.base_url == "https://api.pictograph.io"
    assert (settings.upstream.timeout, settings.upstream.page_size, settings.upstream.allow_http) == (30.0, 100, False)
    assert (settings.upstream.proxy, settings.upstream.ca_file, settings.upstream.api_key_file) == (None, None, None)
    assert (settings.sync.formats, settings.sync.workers, settings.sync.publish_every) == (("onnx",), 8, 5.0)
    assert (settings.sync.on_failure, settings.sync.rules) == ((), ())
    assert (settings.daemon.every, settings.daemon.max_backoff) == (900.0, 3600.0)
    assert settings.store.shared == "private"


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    toml, env = "[sync]\nworkers = 2", {"MIRROR_SYNC_WORKERS": "3"}
    file = str(tmp_path / "config.toml")
    for loaded, workers, origin in [
        (load(tmp_path), 8, "default"),
        (load(tmp_path, toml), 2, file),
        (load(tmp_path, toml, env), 3, "environment MIRROR_SYNC_WORKERS"),
        (load(tmp_path, toml, env, sync__workers="5"), 5, "flag"),
        (load(tmp_path, toml, env, sync__workers=6), 6, "flag"),
        (load(tmp_path, toml, env, sync__workers=None), 3, "environment MIRROR_SYNC_WORKERS"),
    ]:
        assert (loaded.settings.sync.workers, loaded.origins["sync.workers"]) == (workers, origin)


def test_the_sdks_variable_stands_between_our_own_and_the_file(tmp_path: Path) -> None:
    toml = '[upstream]\nbase_url = "https://file.example"'
    sdk, own = {"PICTOGRAPH_BASE_URL": "https://sdk.example/"}, {"MIRROR_UPSTREAM_BASE_URL": "https://own.example"}
    empty = {"PICTOGRAPH_BASE_URL": ""}
    for env, url, origin in [
        (sdk, "https://sdk.example", "environment PICTOGRAPH_BASE_URL"),
        (sdk | own, "https://own.example", "environment MIRROR_UPSTREAM_BASE_URL"),
        (empty, "https://file.example", str(tmp_path / "config.toml")),
    ]:
        loaded = load(tmp_path, toml, env)
        assert (loaded.settings.upstream.base_url, loaded.origins["upstream.base_url"]) == (url, origin)


def test_os_environ_is_read_when_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_SYNC_WORKERS", "9")
    assert load_settings(root=tmp_path).settings.sync.workers == 9
    monkeypatch.setenv("MIRROR_SYNC_WORKERS", "10")
    assert load_settings(root=tmp_path).settings.sync.workers == 10


@pytest.mark.parametrize(
    ("key", "toml", "text", "value"),
    [
        ("upstream.base_url", '"https://a.example/x/"', "https://a.example/x/", "https://a.example/x"),
        ("upstream.api_key_env", '"VISION_KEY"', "VISION_KEY", "VISION_KEY"),
        ("upstream.api_key_file", '"/run/key"', "/run/key", Path("/run/key")),
        ("upstream.allow_http", "true", "Yes", True),
        ("upstream.allow_http", "false", "0", False),
        ("upstream.timeout", '"2m"', "2m", 120.0),
        ("upstream.timeout", "1.5", "1.5", 1.5),
        ("upstream.retry_budget", '"1m"', "60", 60.0),
        ("upstream.page_size", "1000", "1000", 1000),
        ("upstream.proxy", '"http://u:p@proxy:3128/"', "http://u:p@proxy:3128", "http://u:p@proxy:3128"),
        ("upstream.ca_file", '"/etc/ca.pem"', "/etc/ca.pem", Path("/etc/ca.pem")),
        ("sync.formats", '["pte", "onnx"]', "pte, onnx", ("pte", "onnx")),
        ("sync.workers", "64", " 64 ", 64),
        ("sync.publish_every", '"0s"', "0", 0.0),
        ("sync.on_failure", "\"alert --to 'the team'\"", "alert --to 'the team'", ("alert", "--to", "the team")),
        ("daemon.every", '"1h30m"', "1h30m", 5400.0),
        ("daemon.max_backoff", '"1d"', "24h", 86_400.0),
        ("store.shared", '"group"', "group", "group"),
    ],
)
def test_the_file_and_the_environment_say_each_setting_alike(
    key: str, toml: str, text: str, value: object, tmp_path: Path
) -> None:
    section, name = key.split(".")
    from_file = load(tmp_path, f"[{section}]\n{name} = {toml}")
    assert getattr(getattr(from_file.settings, section), name) == value
    (tmp_path / "config.toml").unlink()
    from_env = load(tmp_path, env={f"MIRROR_{section}_{name}".upper(): text})
    assert getattr(getattr(from_env.settings, section), name) == value


def test_a_command_may_be_a_list_of_its_words(tmp_path: Path) -> None:
    loaded = load(tmp_path, '[sync]\non_failure = ["alert", "a b", ""]')
    assert loaded.settings.sync.on_failure == ("alert", "a b", "")


def test_a_relative_path_is_relative_to_where_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    toml = '[upstream]\napi_key_file = "../key"\nca_file = "~/ca.pem"'
    upstream = load(tmp_path, toml).settings.upstream
    assert (upstream.api_key_file, upstream.ca_file) == (tmp_path.parent / "key", home / "ca.pem")
    upstream = load(tmp_path, toml, {"MIRROR_UPSTREAM_API_KEY_FILE": "key"}).settings.upstream
    assert upstream.api_key_file == here / "key"


def test_rules_are_read_in_order(tmp_path: Path) -> None:
    toml = """
[[sync.rules]]
action = "exclude"
names = ["tmp-*", "*-draft"]

[[sync.rules]]
action = "include"
types = ["keypoint_detection"]
architectures = ["rf-detr*"]
statuses = ["ready"]
"""
    assert load(tmp_path, toml).settings.sync.rules == (
        Rule("exclude", names=("tmp-*", "*-draft")),
        Rule("include", types=("keypoint_detection",), architectures=("rf-detr*",), statuses=("ready",)),
    )


def test_no_repr_shows_a_password_or_a_webhook(tmp_path: Path) -> None:
    toml = '[upstream]\nproxy = "http://u:hidden@proxy"\n[sync]\non_failure = "curl https://hooks.example/hidden"'
    loaded = load(tmp_path, toml)
    assert loaded.settings.upstream.proxy == "http://u:hidden@proxy"
    assert "hidden" not in repr(loaded)


def test_a_named_file_is_read_in_place_of_the_roots_own(tmp_path: Path) -> None:
    other, third = tmp_path / "other.toml", tmp_path / "third.toml"
    (tmp_path / "config.toml").write_text("[sync]\nworkers = 2")
    other.write_text("[sync]\nworkers = 3")
    third.write_text("[sync]\nworkers = 5")
    env = {"MIRROR_CONFIG": str(third)}
    for config, environment, workers, file in [
        (None, {}, 2, tmp_path / "config.toml"),
        (None, env, 5, third),
        (str(other), env, 3, other),
    ]:
        loaded = load_settings(root=tmp_path, config=config, env=environment)
        assert (loaded.settings.sync.workers, loaded.file) == (workers, file)


def test_a_file_saved_by_a_windows_editor_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes("\ufeff[sync]\r\nworkers = 7\r\n".encode())
    assert load(tmp_path).settings.sync.workers == 7
