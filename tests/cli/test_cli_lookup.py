"""The looking-up verbs: data on standard output, talk on standard error, exit codes that mean something."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unicodedata
from datetime import timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support.roots import GONE, Root, failure
from support.syncing import base_environment, mirror

from registry_mirror.cli import download, get, path, render, status
from registry_mirror.cli import list as list_
from registry_mirror.cli.options import GlobalOptions
from registry_mirror.errors import ConfigurationError, ConflictError, NoIndexError, NotFoundError, StaleError
from registry_mirror.model import format_time, utc_now

HERE = Path(__file__).parents[1]
NASTY = "\x1b[2J\x07evil\nname\u202e\u2066 🦖 שלום " + "x" * 300


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path / "root")


@pytest.fixture
def call(root):
    def invoke(verb, *arguments, error=None):
        options = GlobalOptions(root=str(root.path), config=None, verbose=False)
        result = CliRunner().invoke(verb.command, [str(one) for one in arguments], obj=options)
        if error is None:
            assert result.exit_code == 0, (result.output, result.exception)
        else:
            assert isinstance(result.exception, error), (result.output, result.exception)
        return result

    return invoke


def harmless(text: str) -> bool:
    return all(character.isprintable() or character in "\n\u200d" for character in text)


def test_a_configuration_that_was_typed_and_cannot_be_read_is_refused(root, tmp_path):
    root.add("forklifts")
    root.publish()
    (tmp_path / "no.toml").write_text("not TOML")
    for verb, arguments in ((list_, []), (status, []), (path, ["forklifts"]), (get, ["forklifts"])):
        for config in ("nope.toml", "", str(tmp_path / "no.toml")):
            options = GlobalOptions(root=str(root.path), config=config, verbose=False)
            result = CliRunner().invoke(verb.command, arguments, obj=options)
            assert isinstance(result.exception, ConfigurationError), (config, result.exception)
            assert config in str(result.exception)


@pytest.mark.parametrize("named", ["flag", "environment"])
@pytest.mark.parametrize(
    "text", ['rooot = "/srv/models"', "[sync]\nworker = 3", "[upstrem]", 'root = "{root}"\n[serve]\nprt = 1']
)
def test_a_misspelt_key_in_a_named_file_is_refused_by_every_verb(root, tmp_path, monkeypatch, text, named):
    root.add("forklifts")
    root.publish()
    config = tmp_path / "mirror.toml"
    config.write_text(text.replace("{root}", str(root.path)))
    if named == "environment":
        monkeypatch.setenv("MIRROR_CONFIG", str(config))
    for verb, arguments in ((list_, []), (status, []), (path, ["forklifts"]), (get, ["forklifts"])):
        for typed in (None, str(root.path)):
            options = GlobalOptions(root=typed, config=str(config) if named == "flag" else None, verbose=False)
            result = CliRunner().invoke(verb.command, arguments, obj=options)
            assert isinstance(result.exception, ConfigurationError), result.output
            assert "unknown" in str(result.exception)
            assert "did you mean" in str(result.exception)


@pytest.mark.parametrize("name", ["MIRROR_ROOTT", "MIRROR_SYNC_WORKER"])
def test_a_misspelt_variable_leads_no_reader_to_another_mirror(root, monkeypatch, name):
    root.add("forklifts")
    root.publish()
    monkeypatch.setenv(name, "3")
    monkeypatch.setenv("MIRROR_SYNC_WORKERS", "nonsense")  # a writer's, which readers do not judge
    for verb, arguments in ((list_, []), (status, []), (path, ["forklifts"]), (get, ["forklifts"])):
        options = GlobalOptions(root=str(root.path), config=None, verbose=False)
        result = CliRunner().invoke(verb.command, arguments, obj=options)
        assert isinstance(result.exception, ConfigurationError), result.output
        assert f"environment {name}: no such setting; did you mean" in str(result.exception)
        monkeypatch.delenv(name)
        assert CliRunner().invoke(verb.command, arguments, obj=options).exception is None
        monkeypatch.setenv(name, "3")


def test_a_named_file_that_readers_may_not_open_matters_only_where_it_has_to_name_the_root(root, tmp_path, monkeypatch):
    root.add("forklifts")
    root.publish()
    config = tmp_path / "mirror.toml"
    config.write_text("")
    opened = Path.read_bytes

    def refuse(path):
        if path == config:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(os, "access", lambda *_: False)
    for typed, error in ((str(root.path), None), (None, ConfigurationError)):
        options = GlobalOptions(root=typed, config=str(config), verbose=False)
        result = CliRunner().invoke(list_.command, [], obj=options)
        assert type(result.exception) is (error or type(None))


def test_an_option_that_is_wrong_for_a_writer_does_not_stop_a_reader(root, tmp_path):
    root.add("forklifts")
    root.publish()
    config = tmp_path / "mirror.toml"
    config.write_text(f'root = "{root.path}"\n[sync]\nworkers = 0\n')
    options = GlobalOptions(root=None, config=str(config), verbose=False)
    assert CliRunner().invoke(path.command, ["forklifts"], obj=options).exit_code == 0


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_json_has_null_where_a_document_has_what_is_no_number(root, call, word):
    entry = root.add("forklifts")
    document = json.dumps({**json.loads(entry.document), "metrics": {"mAP": 1.5, "loss": [1.5]}})
    root.alter(entry, document=document.replace("1.5", word))
    root.add("conveyors")
    root.publish()
    (root.path / "run.json").write_text('{"run": {"odd": 1.5}, "last_synced_at": null}'.replace("1.5", word))
    answers = [
        json.loads(call(verb, *more, "--json").stdout, parse_constant=pytest.fail)
        for verb, more in ((get, ["forklifts"]), (list_, []), (status, []))
    ]
    assert answers[0]["metrics"] == {"mAP": None, "loss": [None]}
    assert answers[0]["metrics"] in [model.get("metrics") for model in answers[1]["models"]]
    assert answers[2]["last_run"]["odd"] is None


# --- list ------------------------------------------------------------------------------------------------------------


def test_list_shows_a_table_with_the_id_last(root, call):
    entry = root.add("forklifts", b"x" * 2048, updated="2026-02-02T00:00:00Z")
    root.add("zebras", None, status="training", model_type=None, created="2025-01-01")
    root.publish()
    header, first, second = call(list_).stdout.splitlines()
    assert header.split() == ["NAME", "STATUS", "TYPE", "SIZE", "CACHED", "UPDATED", "ID"]
    row = ["forklifts", "ready", "object_detection", "2.0", "KiB", "yes", "2026-02-02T00:00:00Z", entry.id]
    assert first.split() == row
    assert second.split()[:5] == ["zebras", "training", "-", "-", "no"]
    assert first.index(entry.id) == header.index("ID")


def test_list_shows_all_models_unless_limited_or_filtered(root, call):
    for number in range(600):
        root.add(f"{number}", None, status="failed" if number % 2 else "ready", model_type=f"type{number % 3}")
    root.publish()
    assert len(call(list_).stdout.splitlines()) == 601
    assert len(call(list_, "--limit", 7).stdout.splitlines()) == 8
    assert len(call(list_, "--status", "failed").stdout.splitlines()) == 301
    assert len(call(list_, "--type", "type0").stdout.splitlines()) == 201
    assert len(json.loads(call(list_, "--json").stdout)["models"]) == 600
    assert call(list_, "--limit", 0, error=SystemExit).exit_code == 2


def test_a_list_of_nothing_says_what_could_be_asked_for(root, call):
    root.add("forklifts")
    root.publish()
    known = "no models of status 'foo'; the known ones are training, ready, failed, archived"
    for arguments, said in (
        (["--status", "foo"], known),
        (["--status", "foo", "--all"], known),
        (["--status", "failed"], "no such models; --all shows archived and gone ones too"),
        (["--type", "foo", "--all"], "no such models"),
    ):
        assert call(list_, *arguments).stderr == f"note: {said}\n"


def test_list_hides_archived_and_gone_models_unless_asked(root, call):
    root.add("live")
    root.add("put away", status="archived")
    root.add("lost", gone_at=GONE)
    root.publish()

    def names(*arguments):
        return {model["name"] for model in json.loads(call(list_, "--json", *arguments).stdout)["models"]}

    assert names() == {"live"}
    assert names("--status", "archived") == {"put away"}
    assert names("--all") == {"live", "put away", "lost"}
    assert "gone" in call(list_, "--all").stdout


def test_list_of_nothing_is_valid_json_and_a_word_on_standard_error(root, call):
    root.publish()
    assert json.loads(call(list_, "--json").stdout) == {"models": []}
    result = call(list_)
    assert result.stdout == ""
    assert "no models" in result.stderr


@pytest.mark.parametrize("count", [1, 2, 200, 201, 401])
def test_list_json_is_one_model_a_line(root, call, count):
    for number in range(count):
        root.add(f"{number}", None)
    root.publish()
    output = call(list_, "--json").stdout
    assert len(json.loads(output)["models"]) == count
    assert len(output.splitlines()) == count + 2


def test_a_name_can_do_nothing_to_the_terminal_and_is_exact_in_json(root, call):
    entry = root.add(
        NASTY, b"x", description="\x1b]0;title\x07", metrics={"\x1b[1m": "\x9b31m"}, class_mapping={"0": "\r"}
    )
    root.publish()
    for result in (call(list_), call(get, entry.id)):
        assert harmless(result.stdout)
        assert "🦖" in result.stdout
        assert "\\x1b" in result.stdout
    assert max(map(render.columns, call(list_).stdout.splitlines())) < 200
    assert json.loads(call(list_, "--json").stdout)["models"][0]["name"] == NASTY
    assert json.loads(call(get, NASTY, "--json").stdout)["name"] == NASTY


def test_a_table_stays_aligned_under_wide_characters(root, call):
    root.add("模型模型", None)
    root.add("ascii", None)
    root.publish()
    lines = call(list_).stdout.splitlines()
    assert len({render.columns(line[: line.index("ready")]) for line in lines[1:]}) == 1


# --- get -------------------------------------------------------------------------------------------------------------


def test_get_json_is_the_document_as_it_came_plus_one_key(root, call):
    entry = root.add("forklifts", b"abc", zeta=1, alpha={"ü": [1.5, None, True]}, big=2**70)
    root.publish()
    result = call(get, "forklifts", "--json")
    found = json.loads(result.stdout)
    document = json.loads(entry.document)
    assert list(found) == [*document, "mirror"]
    assert {key: found[key] for key in document} == document
    assert "ü" in result.stdout
    weights = entry.weights[0]
    assert found["mirror"] == {
        "cached": True,
        "path": str(root.path_of(weights)),
        "md5": weights.md5,
        "sha256": weights.sha256,
        "size": 3,
        "first_seen": "2026-03-01T08:00:00Z",
        "fetched_at": "2026-03-01T09:30:00Z",
        "gone_at": None,
        "shadows": [],
        "pinned": False,
    }


def test_get_json_carries_half_a_surrogate_pair(root, call):
    root.add("x", None, note="\ud800")
    root.publish()
    assert json.loads(call(get, "x", "--json").stdout)["note"] == "\ud800"


def test_get_shows_a_card(root, call):
    entry = root.add(
        "forklifts", b"abc", architecture="yolo", metrics={"mAP50": 0.91}, class_mapping={"1": "b", "0": "a"}
    )
    root.publish()
    card = call(get, entry.id).stdout
    for fact in ("forklifts", entry.id, "yolo", "mAP50  0.91", "classes (2)\n  a, b", entry.weights[0].md5, "3 B"):
        assert fact in card
    assert str(root.path_of(entry.weights[0])) in card


def test_get_says_what_it_shadows_on_standard_error(root, call):
    old = root.add("x", created="2026-01-01")
    root.add("x", created="2026-01-02")
    root.publish()
    result = call(get, "x", "--json")
    assert json.loads(result.stdout)["mirror"]["shadows"] == [old.id]
    assert old.id in result.stderr
    assert call(get, old.id).stderr == ""


def test_an_unknown_model_and_a_missing_index_have_their_own_errors(root, call):
    call(get, "x", error=NoIndexError)
    root.publish()
    for verb, *rest in ((get,), (path,), (download, "-o", "x")):
        call(verb, "x", *rest, error=NotFoundError)


# --- path ------------------------------------------------------------------------------------------------------------


def test_path_prints_the_path_and_nothing_else(root, call):
    entry = root.add("x", status="archived")
    root.publish()
    result = call(path, "x")
    assert result.stdout == f"{root.path_of(entry.weights[0])}\n"
    assert "archived" in result.stderr
    assert json.loads(call(path, "x", "--json").stdout) == {
        "path": str(root.path_of(entry.weights[0])),
        "md5": entry.weights[0].md5,
        "sha256": entry.weights[0].sha256,
        "size": 7,
        "id": entry.id,
        "name": "x",
        "status": "archived",
    }


def test_path_chooses_by_format_version_and_md5(root, call):
    old, torch = root.blob(b"old", version="0", current=False), root.blob(b"p", "pytorch")
    root.add("x", weights=(root.blob(b"new"), old, torch))
    root.publish()
    assert (
        call(path, "x", "--version", "0").stdout == call(path, "x", "--md5", old.md5).stdout == f"{root.path_of(old)}\n"
    )
    assert "superseded" in call(path, "x", "--version", "0").stderr
    assert call(path, "x", "--format", "pytorch").stdout == f"{root.path_of(torch)}\n"
    call(path, "x", "--format", "engine", error=ConflictError)


def test_path_verify_reads_the_bytes(root, call):
    entry = root.add("x", b"whole")
    root.publish()
    file = root.path_of(entry.weights[0])
    file.chmod(0o644)
    file.write_bytes(b"whale")
    call(path, "x")
    assert call(path, "x", "--verify", error=Exception).exception.exit_code == 4


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes there")
def test_path_prints_the_bytes_of_a_root_that_is_no_utf_8(tmp_path):
    root = Root(tmp_path / os.fsdecode(b"caf\xe9"))
    entry = root.add("x")
    root.publish()
    result = mirror_path(root.path, "x")
    assert result.stdout == os.fsencode(root.path_of(entry.weights[0])) + b"\n"


# --- download --------------------------------------------------------------------------------------------------------


def test_download_copies_and_says_so_in_one_line(root, call, tmp_path):
    entry = root.add("forklifts", b"x" * 2048)
    root.publish()
    result = call(download, "forklifts", "-o", tmp_path / "x.onnx")
    assert (tmp_path / "x.onnx").read_bytes() == b"x" * 2048
    assert result.stdout == ""
    assert result.stderr.startswith("forklifts: 2.0 KiB copied")
    assert result.stderr.endswith(f"to {tmp_path}/x.onnx (md5 {entry.weights[0].md5})\n")
    found = json.loads(call(download, "forklifts", "-o", tmp_path / "y", "--link", "hard", "--json").stdout)
    assert (found["output"], found["how"], found["id"]) == (str(tmp_path / "y"), "hard link", entry.id)
    assert os.path.samefile(tmp_path / "y", root.path_of(entry.weights[0]))


def test_download_to_standard_output_or_a_folder_is_refused(root, call, tmp_path):
    root.add("x")
    root.publish()
    result = call(download, "x", "-o", "-", error=SystemExit)
    assert result.exit_code == 2
    assert "name a file" in result.stderr
    assert result.stdout == ""
    call(download, "x", "-o", f"{tmp_path}/new/", error=ConfigurationError)
    call(download, "x", "-o", tmp_path, error=ConfigurationError)


# --- status ----------------------------------------------------------------------------------------------------------


RECORD = {
    "outcome": "partial",
    "started_at": "2026-03-01T00:00:00Z",
    "finished_at": "2026-03-01T00:01:00Z",
    "fetched": {"files": 2, "bytes": 2048},
    "failed": [{"id": "1", "name": "b", "error": "storage answered 503"}],
}


def ran(root: Root, ago: timedelta | None) -> str | None:
    moment = None if ago is None else format_time(utc_now() - ago)
    root.layout.run_record.write_text(json.dumps({"run": RECORD, "last_synced_at": moment}))
    return moment


@pytest.mark.parametrize("ahead", [timedelta(seconds=90), timedelta(days=2000)])
def test_a_sync_in_the_future_is_stale_and_its_age_is_not_known(root, call, ahead):
    root.add("a")
    root.publish()
    ran(root, -ahead)
    assert "which is still to come: a clock was or is wrong" in call(status).stdout
    result = call(status, "--json", "--max-age", "1w", error=StaleError)
    assert "a clock was or is wrong" in str(result.exception)
    found = json.loads(result.stdout)
    assert (found["age_seconds"], found["stale"]) == (None, True)


def test_clocks_that_differ_by_less_than_a_minute_are_normal(root, call):
    root.add("a")
    root.publish()
    ran(root, -timedelta(seconds=50))
    found = json.loads(call(status, "--json", "--max-age", "10s").stdout)
    assert (found["age_seconds"], found["stale"]) == (0, False)


def test_status_json_has_every_key(root, call):
    root.add("a", b"abc")
    failed = root.add("b", None, failures=(failure("storage answered 503"),))
    root.add("c", None, status="training")
    root.publish()
    moment = ran(root, timedelta(hours=2))
    found = json.loads(call(status, "--json", "--max-age", "24h").stdout)
    assert found.pop("age_seconds") == pytest.approx(7200, abs=60)
    assert found == {
        "root": str(root.path),
        "last_synced_at": moment,
        "stale": False,
        "models": {"total": 3, "ready": 2, "training": 1, "failed": 0, "archived": 0, "gone": 0, "other": 0},
        "weights": {
            "files": 1,
            "bytes": 3,
            "cached_models": 1,
            "ready_not_cached": 1,
            "evicted": 0,
            "pinned_models": 0,
        },
        "failures": [
            {
                "id": failed.id,
                "name": "b",
                "format": "onnx",
                "error": "storage answered 503",
                "attempts": 3,
                "last_failed_at": "2026-03-01T09:30:00Z",
            }
        ],
        "last_run": RECORD,
        "listing_gaps": [],
        "verify": {
            "last": None,
            "oldest_check": None,
            "never_checked": 1,
            "lost": 0,
            "looked_at": {"files": 1, "of": 1},
            "damaged": 0,
            "touched": 0,
        },
        "quarantine": {"files": 0, "bytes": 0},
    }
    assert json.loads(call(status, "--json").stdout)["stale"] is None


def test_a_sentence_that_failed_ends_once_and_the_name_is_said_once(root, call):
    root.add(
        "forklifts", None, failures=(failure("model 'forklifts': Server disconnected without sending a response."),)
    )
    root.publish()
    text = call(status).stdout
    assert "  forklifts (onnx): Server disconnected without sending a response; 3 attempts, " in text


def test_one_file_and_one_model_are_told_in_the_singular(root, call):
    root.add("forklifts", b"abc")
    root.publish()
    text = call(status).stdout
    assert "1 file never checked" in text
    assert not re.search(r"\b1 \w*(files|models)\b", text)


def test_status_for_people_names_what_failed(root, call):
    root.add(NASTY, None, failures=(failure("bad\x1b[0m\nanswer"),))
    root.add("a", b"abc")
    root.publish()
    ran(root, timedelta(hours=2))
    text = call(status).stdout
    assert harmless(text)
    for fact in (
        "2 h ago",
        "2: 2 ready",
        "1 file, 3 B",
        "1 model; 1 ready and not cached",
        "partial",
        "2.0 KiB",
        "evil",
    ):
        assert fact in text
    assert "bad\\x1b[0m\\nanswer; 3 attempts" in text


@pytest.mark.parametrize(
    ("ago", "age", "stale"),
    [
        (timedelta(hours=25), "24h", True),
        (timedelta(hours=23), "24h", False),
        (timedelta(hours=-5), "1s", True),
        (None, "24h", True),
    ],
)
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_max_age_turns_staleness_into_an_exit_code_after_the_status(root, call, ago, age, stale, flags):
    root.add("a")
    root.publish()
    ran(root, ago)
    result = call(status, "--max-age", age, *flags, error=StaleError if stale else None)
    assert not stale or result.exception.exit_code == 10
    if flags:
        assert json.loads(result.stdout)["stale"] is stale
    else:
        assert "last synced" in result.stdout


@pytest.mark.parametrize("content", [None, b"", b'{"run": {"outc', b"[]", b'{"run": 1}', b"\xff\xfe", b"[" * 100_000])
def test_an_absent_or_torn_run_record_is_said_and_does_not_fail(root, call, content):
    root.add("a")
    root.publish()
    if content is not None:
        root.layout.run_record.write_bytes(content)
    result = call(status)
    assert "last run     not known" in result.stdout
    assert ("run.json" in result.stderr) is (content is not None)
    assert json.loads(call(status, "--json").stdout)["last_run"] is None
    call(status, "--max-age", "24h", error=StaleError)


def test_a_run_record_of_odd_shapes_is_shown_as_far_as_it_goes(root, call):
    root.publish()
    odd = {"outcome": "\x1b[31m", "finished_at": None, "fetched": {"bytes": "many"}, "failed": 3}
    root.layout.run_record.write_text(json.dumps({"run": odd, "last_synced_at": 5}))
    assert harmless(call(status).stdout)


def test_an_unreadable_age_is_a_usage_error(root, call):
    root.publish()
    assert call(status, "--max-age", "soon", error=SystemExit).exit_code == 2


# --- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [list_, get, path, download, status])
def test_every_verb_and_option_says_what_it_is_for(verb):
    assert verb.command.help
    assert verb.command.short_help
    for parameter in verb.command.params:
        assert isinstance(parameter, click.Argument) or parameter.help
    assert "--json" in {option for parameter in verb.command.params for option in parameter.opts}


PROGRAM = """
import sys
import unicodedata
from registry_mirror.cli import {verb}
from registry_mirror.cli.options import GlobalOptions
{verb}.command.main(sys.argv[2:], obj=GlobalOptions(sys.argv[1], None, False), standalone_mode=False)
heavy = {{"httpx", "sqlalchemy", "alembic", "filelock", "msgspec", "rich", "tenacity"}}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""


def run(verb: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "PYTHONUTF8": "1"}
    command = [sys.executable, "-c", PROGRAM.format(verb=verb), *map(os.fspath, arguments)]
    return subprocess.run(command, capture_output=True, check=False, env=environment)


def mirror_path(root: Path, model: str) -> subprocess.CompletedProcess[bytes]:
    return run("path", root, model)


def test_looking_up_imports_none_of_the_heavy_libraries(root, tmp_path):
    root.add("x")
    root.publish()
    for verb, *arguments in (
        ("list",),
        ("get", "x"),
        ("path", "x"),
        ("download", "x", "-o", tmp_path / "out"),
        ("status",),
    ):
        result = run(verb, root.path, *arguments)
        assert result.returncode == 0, result.stderr


def test_json_has_nothing_in_it_that_a_terminal_would_obey_or_hide(tmp_path):
    """C0, DEL, C1, directions of writing, those without a width, tags: as `\\uXXXX`, and the values are the same."""
    odd = "".join(
        map(chr, (*range(1, 32), *range(0x7F, 0xA0), 0xAD, 0x61C, *range(0x200B, 0x2010), *range(0x2028, 0x202F)))
    )
    odd += "".join(map(chr, (*range(0x2060, 0x2070), 0xFEFF, 0xFFF9, 0xE0001, 0xE007F)))
    name = f"é漢😀{odd}"
    root = Root(tmp_path / "root")
    root.add(name, b"weights", description=odd, metrics={odd: 1})
    root.publish()
    for verb in (["list", "--json"], ["get", name, "--json"], ["status", "--json"]):
        done = mirror("--root", str(root.path), *verb, env=base_environment())
        if done.returncode == 2:  # the verb has no such option
            continue
        assert done.returncode == 0, done.stderr
        shown = done.stdout
        assert not [each for each in shown if each != "\n" and (unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp"))]
        found = json.loads(shown)
        assert "é漢😀" in shown or verb[0] == "status"
        if verb[0] == "list":
            assert found["models"][0]["name"] == name
