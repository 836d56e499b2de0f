"""Every mistake in the configuration is one line: where it stands, which key, what is wrong, and the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_mirror.config import load_settings
from registry_mirror.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def mistake(folder: Path, toml: str = "", env: dict[str, str] | None = None, **flags: object) -> str:
    """The one line that a wrong configuration gets, with the root as `@`."""
    overrides = {name.replace("__", "."): value for name, value in flags.items()}
    if toml:
        (folder / "config.toml").write_text(toml, "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(root=folder, env=env or {}, overrides=overrides)
    assert caught.value.exit_code == 2
    assert caught.value.hint, "a mistake comes with its cure"
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    return str(caught.value).replace(str(folder), "@")


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"[sync]\n\nworkers = = 3\n", "@/config.toml, line 3: not TOML: invalid value; mend that line"),
        (
            b"[sync]\nworkers = 3\nworkers = 4\n",
            "@/config.toml, line 3: not TOML: cannot overwrite a value; mend that line",
        ),
        (b'[sync]\nformats = ["onnx"\n', "@/config.toml, line 2: not TOML: unclosed array; mend that line"),
        (b"# gr\xfc\xdfe\n", "@/config.toml, line 1: not UTF-8; save the file as UTF-8"),
        (b"[sync]\nworkers = " + b"9" * 5000, "@/config.toml, line 2: not TOML: "),
        (b"a = " + b"[" * 5000, "@/config.toml, line 1: not TOML: "),
    ],
)
def test_a_file_that_is_not_toml_is_refused_with_its_line(data: bytes, line: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(data)
    assert mistake(tmp_path).startswith(line)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("absent.toml", "does not exist"), ("config.toml/x", "does not exist"), (".", "is a folder, not a file")],
)
def test_a_named_file_that_cannot_be_read_is_refused(name: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").touch()
    path = tmp_path / name
    cure = "check the path, or leave it out to use ROOT/config.toml"
    for config, env, who in [(path, {}, "--config"), (None, {"MIRROR_CONFIG": str(path)}, "environment MIRROR_CONFIG")]:
        with pytest.raises(ConfigurationError) as caught:
            load_settings(config=config, env=env)
        assert str(caught.value) == f"{who}: {path} {problem}; {cure}"


def test_a_roots_own_file_that_is_a_folder_is_refused_and_a_missing_one_is_not(tmp_path: Path) -> None:
    assert load_settings(root=tmp_path / "absent", env={}).file is None
    (tmp_path / "config.toml").mkdir()
    assert mistake(tmp_path) == "@/config.toml is a folder, not a file; mend it, or name another file with --config"


def test_a_file_that_may_not_be_read_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _flags: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "config.toml").touch()
    monkeypatch.setattr("registry_mirror.config.root.os.open", refuse)  # root may read everything
    line = "@/config.toml cannot be read (permission denied); mend it, or name another file with --config"
    assert mistake(tmp_path) == line


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ("[sync]\nworkers = 0", "sync.workers is 0, out of range; use a whole number from 1 to 64"),
        ("[sync]\nworkers = 65", "sync.workers is 65, out of range; use a whole number from 1 to 64"),
        ("[sync]\nworkers = true", "sync.workers is true, not a whole number; use a whole number from 1 to 64"),
        ("[sync]\nworkers = 4.0", "sync.workers is 4.0, not a whole number; use a whole number from 1 to 64"),
        ('[sync]\nworkers = "4"', "sync.workers is '4', not a whole number; use a whole number from 1 to 64"),
        ('[sync]\nmax_rate = "50 kB/s"', "sync.max_rate is '50 kB/s', out of range; use 100 KB/s or more"),
        ('[sync]\nmax_rate = "2 MB/h"', """sync.max_rate is '2 MB/h', which is not a rate; write it like "10 MB/s\""""),
        ("[upstream]\npage_size = 1001", "upstream.page_size is 1001, out of range; use a whole number from 1 to 1000"),
        ('[upstream]\nallow_http = "no"', "upstream.allow_http is 'no', not true or false; use true or false"),
        ("[upstream]\nallow_http = 0", "upstream.allow_http is 0, not true or false; use true or false"),
        ("[upstream]\ntimeout = 0", "upstream.timeout is 0, out of range; use a duration from 1s to 1h"),
        ("[upstream]\ntimeout = inf", "upstream.timeout is inf, which is not a duration; write it like"),
        ("[daemon]\nevery = 9", "daemon.every is 9, out of range; use a duration from 10s to 31d"),
        ('[daemon]\nmax_backoff = "32d"', "daemon.max_backoff is '32d', out of range; use a duration from 10s to 31d"),
        ('[sync]\nformats = "onnx"', """sync.formats is 'onnx', not a list; write it like ["onnx"]"""),
        ("[sync]\nformats = []", "sync.formats is an empty list; list at least one of onnx, pytorch, safetensors"),
        ('[sync]\nformats = ["onnx", "onnx"]', "sync.formats names 'onnx' twice; name each once"),
        ("[sync]\nformats = [[1]]", "sync.formats names [1], which nobody knows; list at least one of onnx, pytorch"),
        ('[store]\nshared = "groups"', "store.shared is 'groups', which it cannot be; did you mean 'group'?"),
        ('[store]\nshared = "x"', """store.shared is 'x', which it cannot be; use "private" or "group\""""),
        ("[upstream]\nca_file = 5", "upstream.ca_file is 5, not a path in quotes; write a path in quotes"),
        ('[upstream]\nca_file = " "', "upstream.ca_file is empty; give it a value, or leave it out for the default"),
        (
            '[upstream]\nca_file = "a\\u0000b"',
            "upstream.ca_file has a line end or another control character in it; write",
        ),
        ("[sync]\non_failure = 5", "sync.on_failure is neither a text nor a list of texts; write it like"),
        ('[sync]\non_failure = ["a", 1]', "sync.on_failure is neither a text nor a list of texts; write it like"),
        ("[sync]\non_failure = []", "sync.on_failure is empty; write it like"),
        ('[sync]\non_failure = " "', "sync.on_failure is empty; write it like"),
        ('[sync]\non_failure = "alert \'x"', "sync.on_failure has a quote or a backslash that does not end"),
        ('[sync]\non_failure = "a\\u0000b"', "sync.on_failure has a NUL character in it; write it like"),
        (
            '[upstream]\napi_key_env = "pk_live_hidden"',
            "upstream.api_key_env is not the name of an environment variable;",
        ),
        ('[upstream]\nbase_url = ["pk_live_hidden"]', "upstream.base_url is 'pk_****', not a text in quotes; write"),
        (
            '[upstream]\nbase_url = "https://u:hidden@x"',
            "upstream.base_url cannot be used: the base URL 'https://****@x'",
        ),
        ('[upstream]\nproxy = "socks5://u:hidden@x"', "upstream.proxy cannot be used: the proxy 'socks5://****@x'"),
        ('[upstream]\nproxy = ["http://u:hidden@x"]', "upstream.proxy is "),
        ('[sync]\nrules = "all"', "sync.rules is 'all', not an array of tables; write a [[sync.rules]] table for each"),
        ('[sync.rules]\naction = "include"', "sync.rules is one table; write [[sync.rules]] with two brackets"),
        ("[sync]\nrules = [1]", "sync.rules has 1 as rule 1, not a table; write a [[sync.rules]] table for each rule"),
        ("[[sync.rules]]", """sync.rules has no action in rule 1; write action = "include" or "exclude\""""),
        ('[[sync.rules]]\naction = "skip"', "sync.rules has the action 'skip' in rule 1; write action ="),
        (
            '[[sync.rules]]\naction = "excluded"',
            "sync.rules has the action 'excluded' in rule 1; did you mean 'exclude'?",
        ),
        (
            '[[sync.rules]]\naction = "include"\nnames = []',
            "sync.rules has an empty list of names in rule 1; leave the key",
        ),
        (
            '[[sync.rules]]\naction = "include"\nnames = "x"',
            "sync.rules has names = 'x' in rule 1; write a list of texts",
        ),
        (
            '[[sync.rules]]\naction = "include"\nnames = [""]',
            "sync.rules has names = [''] in rule 1; write a list of texts",
        ),
        (
            '[[sync.rules]]\naction = "include"\n[[sync.rules]]\naction = "include"\nstatuses = ["Ready"]',
            "sync.rules has 'Ready' among the statuses of rule 2; did you mean 'ready'?",
        ),
        (
            '[[sync.rules]]\naction = "include"\ntypes = ["object-detection"]',
            "sync.rules has 'object-detection' among the types of rule 1; did you mean 'object_detection'?",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_the_file_the_key_and_the_cure(toml: str, line: str, tmp_path: Path) -> None:
    assert mistake(tmp_path, toml).startswith(f"@/config.toml: {line}")


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("MIRROR_SYNC_WORKERS", "many", "sync.workers is 'many', not a whole number; use a whole number from 1 to 64"),
        ("MIRROR_SYNC_WORKERS", " ", "sync.workers is empty; give it a value, or leave it out"),
        ("MIRROR_UPSTREAM_ALLOW_HTTP", "maybe", "upstream.allow_http is 'maybe', not true or false; use true or false"),
        ("MIRROR_SYNC_FORMATS", ",", "sync.formats is an empty list; list at least one of onnx, pytorch"),
        (
            "MIRROR_UPSTREAM_TIMEOUT",
            "3 fortnights",
            "upstream.timeout is '3 fortnights', which is not a duration; write",
        ),
        ("MIRROR_UPSTREAM_PROXY", "u:hidden@proxy", "upstream.proxy cannot be used: the proxy '****@proxy' is not"),
        (
            "PICTOGRAPH_BASE_URL",
            "ftp://x",
            "upstream.base_url cannot be used: the base URL 'ftp://x' is not an http or",
        ),
    ],
)
def test_a_wrong_variable_is_refused_with_its_name_the_key_and_the_cure(
    name: str, text: str, line: str, tmp_path: Path
) -> None:
    assert mistake(tmp_path, env={name: text}).startswith(f"environment {name}: {line}")


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ("[daemon]\nevry = 5", "unknown key 'daemon.evry'; did you mean 'every'?"),
        ("[daemon]\nworkers = 5", "unknown key 'daemon.workers'; workers belongs in [sync]"),
        ("[daemon]\nzzz = 5", "unknown key 'daemon.zzz'; the known ones are every, max_backoff"),
        ("rot = '/x'", "unknown key 'rot'; did you mean 'root'?"),
        ("zzz = 1", "unknown key 'zzz'; the known ones are root, upstream, sync, daemon, store, retention, serve"),
        ("'upstream.base_url' = 'https://x'", "unknown key 'upstream.base_url'; "),
        ("[zzz]", "unknown section 'zzz'; the known ones are upstream, sync, daemon, store, retention, serve"),
        ("[[rules]]", "unknown section 'rules'; "),
        ("upstream = 'https://x'", "upstream is 'https://x', not a table; write [upstream] above its keys"),
        ("api_key = 'pk_live_hidden'", "api_key is never set in this file, which gets copied and shown; export it as"),
        (
            "[sync]\nAPI_KEY = 'hidden'",
            "sync.API_KEY is never set in this file, which gets copied and shown; export it",
        ),
    ],
)
def test_an_unknown_name_in_the_file_is_refused_with_a_suggestion(toml: str, line: str, tmp_path: Path) -> None:
    assert mistake(tmp_path, toml).startswith(f"@/config.toml: {line}")


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("MIRROR_DAEMON_EVRY", "did you mean 'MIRROR_DAEMON_EVERY'?"),
        ("MIRROR_ROOTS", "did you mean 'MIRROR_ROOT'?"),
        ("MIRROR_SYNC_RULES", "rules are set in config.toml only, as [[sync.rules]] tables"),
        ("MIRROR_UPSTREAM_API_KEY", "the key goes into PICTOGRAPH_API_KEY"),
        ("MIRROR_", "unset it; docs/configuration.md lists the variables that are read"),
    ],
)
def test_an_unknown_variable_is_refused_with_a_suggestion(name: str, cure: str, tmp_path: Path) -> None:
    assert mistake(tmp_path, env={name: "hidden"}) == f"environment {name}: no such setting; {cure}"


def test_other_programs_variables_are_left_alone(tmp_path: Path) -> None:
    env = {"PICTOGRAPH_TIMEOUT": "x", "MIRRORS": "x", "mirror_sync_workers": "x", "PATH": "/bin"}
    assert set(load_settings(root=tmp_path, env=env).origins.values()) == {"flag", "default"}


def test_an_unknown_flag_is_refused(tmp_path: Path) -> None:
    assert (
        mistake(tmp_path, daemon__evry="5m") == "command line: unknown key 'daemon.evry'; did you mean 'daemon.every'?"
    )
    assert mistake(tmp_path, root="/x").startswith("command line: unknown key 'root'; ")


SERVICE = {
    "{}_SERVICE_HOST": "10.0.0.11",
    "{}_SERVICE_PORT": "8080",
    "{}_SERVICE_PORT_HTTP": "8080",
    "{}_PORT": "tcp://10.0.0.11:8080",
    "{}_PORT_8080_TCP": "tcp://10.0.0.11:8080",
    "{}_PORT_8080_TCP_PROTO": "tcp",
    "{}_PORT_8080_TCP_PORT": "8080",
    "{}_PORT_8080_TCP_ADDR": "10.0.0.11",
    "{}_PORT_53_UDP": "udp://10.0.0.11:53",
    "{}_PORT_9_SCTP_ADDR": "10.0.0.11",
}


@pytest.mark.parametrize("service", ["MIRROR", "MIRROR_SERVE", "MIRROR_MODELS_2"])
def test_what_kubernetes_makes_of_a_service_is_no_setting_of_ours(service, tmp_path):
    env = {name.format(service): value for name, value in SERVICE.items()}
    if service == "MIRROR_SERVE":
        del env["MIRROR_SERVE_PORT"]  # ours, whoever set it
    assert load_settings(root=tmp_path, env=env).settings.serve.port == 8080
    for name, value in env.items():
        assert load_settings(root=tmp_path, env={name: value}).settings.serve.port == 8080


@pytest.mark.parametrize(
    "name", ["MIRROR_PORT", "MIRROR_SERV_PORT", "MIRROR_HOST", "MIRROR_SERVE_HOTS", "MIRROR_PORT_TCP", "MIRROR_SERVICE"]
)
def test_a_name_of_ours_that_is_misspelt_is_still_refused(name, tmp_path):
    with pytest.raises(ConfigurationError, match=f"environment {name}: no such setting"):
        load_settings(root=tmp_path, env={name: "8081"})
