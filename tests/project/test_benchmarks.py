"""The benchmark counts right, knows what it was asked for, and says what it could not measure."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import library, report, tools, upstream
from benchmarks.chart import curves, exponents
from benchmarks.lines import Kind, Line, NotMeasuredError, Series, Target, fitted_exponent
from benchmarks.registry import FIGURES, chosen
from benchmarks.results import Missing, Results, about, results_of
from benchmarks.run import exit_code, one, parse, place_of
from benchmarks.setting import OURS, SIZES, Contender, Setting, against, named
from benchmarks.slow import span
from benchmarks.table import as_markdown, as_text, value
from registry_mirror.demo import DemoModel, DemoUpstream, DemoWeights
from tests.support.syncing import run_sync

TOP = Path(__file__).parents[2]
needs_nginx = pytest.mark.skipif(not shutil.which("nginx") or not shutil.which("curl"), reason="needs nginx and curl")


def compared(kind: Kind, bound: float | None, *, ours: float = 2.0, peer: float = 3.0, unit: str = "s") -> Line:
    return Line(
        "work",
        Series(OURS, (9.0, ours, 0.1), unit),
        Series("peer", (peer,), unit),
        Target(kind, bound),
        None,
        "f",
        "memory",
    )


@pytest.mark.parametrize(
    ("line", "ratio", "met"),
    [
        (compared(Kind.SPEED, 1.5), 1.5, True),
        (compared(Kind.SPEED, 1.51), 1.5, False),
        (compared(Kind.TIME, 0.67), 2 / 3, True),
        (compared(Kind.TIME, 0.66), 2 / 3, False),
        (compared(Kind.SPEED, 0.6, unit="answers/s"), 2 / 3, True),
        (compared(Kind.TIME, 1.4, unit="answers/s"), 1.5, False),
        (compared(Kind.SPEED, None), 1.5, None),
        (Line("peak", Series(OURS, (199.0, 200.0, 201.0), "MiB"), target=Target(Kind.VALUE, 200)), 200, True),
        (Line("peak", Series(OURS, (200.5,), "MiB"), target=Target(Kind.VALUE, 200)), 200.5, False),
        (Line("storage", Series(OURS, (0.0,), "requests"), target=Target(Kind.VALUE, 0)), 0, True),
        (Line("limit", Series("this machine", (0.6,), "GB/s")), 0.6, None),
    ],
)
def test_a_ratio_is_of_medians_and_goes_the_way_its_target_is_worded(line, ratio, met):
    assert line.ratio == pytest.approx(ratio)
    assert line.met is met


def test_a_fitted_exponent_finds_the_power_and_nothing_of_the_factor():
    counts = [1_000, 3_000, 10_000, 100_000]
    for power in (0.5, 1.0, 1.3):
        assert fitted_exponent(counts, [7e-5 * count**power for count in counts]) == pytest.approx(power)
    noisy = [count * (1.1 if place % 2 else 0.9) for place, count in enumerate(counts)]
    assert math.isclose(fitted_exponent(counts, noisy), 1.0, abs_tol=0.05)
    with pytest.raises(ValueError, match="two different counts"):
        fitted_exponent([5, 5], [1, 2])


def test_results_survive_json():
    lines = (
        compared(Kind.SPEED, 1.25),
        compared(Kind.TIME, None),
        Line("unchanged", Series(OURS, (1.0,)), models=1000),
    )
    whole = Results(about("tiny", 1), lines, (Missing("verify", "memory", "no such verb: verify"),))
    assert results_of(json.loads(json.dumps(whole.as_json()))) == whole


def results(*lines: Line, missing: tuple[Missing, ...] = ()) -> Results:
    return Results(about("tiny", 1), lines, missing)


def test_the_table_shows_values_ratio_target_and_verdict_and_what_was_not_measured():
    shown = as_text(
        results(
            compared(Kind.SPEED, 1.25),
            compared(Kind.TIME, 0.5, ours=0.0125, peer=0.02),
            missing=(Missing("verify", "memory", "no such verb: verify"),),
        )
    )
    rows = [re.split(r" {2,}", line.strip()) for line in shown.splitlines()]
    assert rows[2] == ["work", "2.00 s", "peer", "3.00 s", "1.50", "≥ 1.25 times as fast", "met"]
    assert rows[3] == ["work", "0.100 s", "peer", "20.00 ms", "5.00", "≤ 0.5 times its time", "missed"]
    assert "not measured: verify, in memory: no such verb: verify" in shown
    assert shown.endswith("1 of 2 targets met, 1 not measured")


def test_a_pipe_in_a_peers_name_does_not_break_the_markdown_table():
    line = replace(compared(Kind.SPEED, 1.25), peer=Series("curl | tee", (3.0,)))
    table = [row for row in as_markdown(results(line)).splitlines() if row.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in table} == {8}


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [(1.234, "s", "1.23 s"), (0.05, "s", "50.00 ms"), (0, "s", "0.000 s"), (9e4, "answers/s", "90,000 answers/s")],
)
def test_a_value_is_written_in_a_unit_that_can_be_read(amount, unit, text):
    assert value(Series(OURS, (amount,), unit)) == text


# The table of targets that the project has set itself, and the figures that answer each row.
ROWS = {
    "one 1 GiB file in memory, in process": ["big-file"],
    "the same, mirror sync as a whole process": ["big-file-process"],
    "the same over TLS": ["big-file-tls"],
    "the same on disk, durable": ["big-file-durable"],
    "200 models of 2 MiB, cold, against a loop of the SDK and against aria2c": ["many-files"],
    "a storage that gives 40 MB/s to one connection": ["slow-storage", "slow-storage-many"],
    "sync of 100,000 unchanged models": ["unchanged"],
    "1,000 to 100,000 models, and publishing the index": ["scale"],
    "path by name, warm": ["lookup"],
    "mirror path as a whole process": ["path"],
    "download of a cached file, and as a link": ["deliver", "deliver-link"],
    "verify": ["verify"],
    "serve": ["serve", "serve-ranges", "serve-answers"],
    "the machine's own limits": ["limits"],
}


def test_every_target_has_a_figure_and_every_figure_a_row():
    assert sorted(name for names in ROWS.values() for name in names) == sorted(FIGURES)


def test_the_full_sizes_are_those_of_the_targets():
    full = SIZES["full"]
    assert (full.big, full.many, full.small) == (1 << 30, 200, 2 << 20)
    assert (full.models, min(full.scale), max(full.scale)) == (100_000, 1_000, 100_000)
    assert full.checked * full.checked_size == 8 << 30


def test_figures_are_chosen_by_name_in_the_order_of_the_registry():
    assert [figure.name for figure in chosen(["lookup", "big-file"])] == ["big-file", "lookup"]
    assert len(chosen([])) == len(FIGURES)


def test_an_unknown_figure_is_an_error_that_names_the_known_ones(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(["--only", "big-file,bigfile"])
    assert ended.value.code == 2
    assert "no figure 'bigfile'; there are limits, big-file," in capsys.readouterr().err


def test_a_figure_of_another_place_is_left_out_unless_it_was_asked_for(monkeypatch):
    monkeypatch.setattr("benchmarks.run.place_of", lambda folder: type(place_of(folder))("memory", folder))
    everything, asked = parse(["--dir", "/"]), parse(["--dir", "/", "--only", "big-file-durable"])
    assert "big-file-durable" not in [figure.name for figure in everything.figures]
    assert [figure.name for figure in asked.figures] == ["big-file-durable"]


@pytest.fixture
def setting(tmp_path):
    with Setting(tmp_path, "disk", SIZES["tiny"], 2) as made:
        yield made


def test_contenders_run_in_turn_after_one_round_that_does_not_count(setting):
    order = []
    seconds = iter(range(100))

    def contender(who):
        return Contender(who, lambda: (order.append(who), float(next(seconds)))[1])

    series = setting.alternate([contender(OURS), contender("peer")])
    assert order == [OURS, "peer"] * 3
    assert (series[OURS].values, series["peer"].values) == ((2.0, 4.0), (3.0, 5.0))


def test_a_peer_that_is_missing_or_fails_is_noted_and_costs_no_other_line(setting):
    def fails() -> float:
        raise NotMeasuredError("it ended with 1")

    contenders = [
        Contender(OURS, lambda: 1.0),
        Contender("absent", lambda: 1.0, "no-such-command"),
        Contender("broken", fails, "sh"),
        Contender("there", lambda: 2.0, "sh"),
    ]
    series = setting.alternate(contenders)
    target = Target(Kind.SPEED, 1.0)
    assert [
        line.peer.who for line in against("work", series, dict.fromkeys(("absent", "broken", "there"), target))
    ] == ["there"]
    assert [note.partition(";")[0] for note in setting.missing] == [
        "absent: no-such-command not found",
        "broken: it ended with 1",
    ]
    with pytest.raises(NotMeasuredError):
        setting.alternate([Contender(OURS, fails)])


def test_a_target_of_one_place_is_not_judged_in_another_but_its_ratio_keeps_its_wording(setting):
    figure = replace(FIGURES["big-file"], measure=lambda _setting: [compared(Kind.TIME, 0.1)], judged=("memory",))
    (line,), why = one(figure, setting)
    assert (line.met, line.place, line.ratio, why) == (None, "disk", pytest.approx(2 / 3), [])
    (judged,), _ = one(replace(figure, judged=("disk",)), setting)
    assert judged.met is False


def test_a_figure_with_a_fault_is_noted_and_the_others_go_on(setting):
    def faulty(_setting: Setting) -> list[Line]:
        return [compared(Kind.TIME, 0.1), *{}["runs"]]

    assert one(replace(FIGURES["serve"], measure=faulty), setting) == (
        [],
        ["a fault in the benchmark: KeyError: 'runs'"],
    )


def test_what_is_shared_is_made_once_and_closed_with_the_setting(tmp_path):
    closed = []

    class Made:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            closed.append(self)

    with Setting(tmp_path, "disk", SIZES["tiny"], 1) as setting:
        first = setting.shared("one", Made)
        assert setting.shared("one", Made) is first
        assert closed == []
    assert closed == [first]


def test_the_weights_of_a_library_of_many_models_are_as_a_sync_leaves_them(root):
    """Only a full run of the benchmarks puts them; no other test sees when the catalog changes under it."""
    models = [DemoModel(upstream.document(each), {"onnx": DemoWeights(library.content(each, 0))}) for each in range(5)]
    with DemoUpstream(models) as platform:
        nothing = {"sync.rules": [{"action": "exclude"}]}
        assert run_sync(platform, root, nothing).exit_code == 0
        library._put_weights(root, 5)
        settled = run_sync(platform, root).record.as_json()
    assert (settled["unchanged"], settled["requests"]["storage"]) == (5, 0)


def test_a_missed_target_is_an_error_only_when_strict_and_what_is_missing_always():
    won, lost = compared(Kind.SPEED, 1.0), compared(Kind.SPEED, 9.0)
    gap = (Missing("verify", "memory", "no such verb"),)
    assert exit_code(results(won, lost), strict=False) == 0
    assert exit_code(results(won), strict=True) == 0
    assert exit_code(results(won, lost), strict=True) == 1
    assert exit_code(results(won, missing=gap), strict=True) == 2


def test_the_chart_takes_the_curves_of_one_place():
    def point(what, models, seconds, place="memory", figure="scale"):
        return Line(what, Series(OURS, (seconds,)), models=models, figure=figure, place=place).as_json()

    lines = [
        point("unchanged", 1000, 0.2),
        point("unchanged", 3000, 0.4),
        point("publish after 100 changes", 1000, 0.1),
        point("publish after none", 1000, 0.001),
        point("unchanged", 1000, 9.0, place="disk"),
        point("unchanged: exponent, all counts", None, 0.63),
        point("unchanged: exponent, 10,000 up", None, 0.9),
    ]
    assert curves(lines, "memory") == {"sync, unchanged": [(1000, 0.2), (3000, 0.4)], "publish": [(1000, 0.1)]}
    assert exponents(lines, "memory") == {"sync, unchanged": 0.63}


def test_a_report_replaces_what_stands_between_the_marks_and_nothing_else(tmp_path):
    page, saved = tmp_path / "docs" / "performance.md", tmp_path / "bench" / "results.json"
    for file in (page, saved):
        file.parent.mkdir()
    page.write_text(f"# Before\n\n{report.BEGIN}\nold\n{report.END}\n\nAfter\n")
    saved.write_text(json.dumps(results(compared(Kind.SPEED, 1.25)).as_json()))
    (saved.parent / "scale-memory.svg").write_text("<svg/>")
    for _ in range(2):  # a second time as well
        assert report.main([str(saved), "--into", str(page)]) == 0
    text = page.read_text()
    assert text.startswith(f"# Before\n\n{report.BEGIN}\n\nVersion ")
    assert text.endswith(f"{report.END}\n\nAfter\n")
    assert "old" not in text
    assert text.count("| work | 2.00 s | peer | 3.00 s | 1.50 |") == 1
    assert "](scale-memory.svg)" in text
    assert (page.parent / "scale-memory.svg").exists()
    with pytest.raises(ValueError, match="once each"):
        report.between("no marks", "text")


def test_the_performance_page_has_the_marks_of_the_report():
    report.between((TOP / "docs" / "performance.md").read_text("utf-8"), "text")


@pytest.mark.parametrize(
    ("header", "wanted"),
    [(None, (0, 100)), ("bytes=10-19", (10, 20)), ("bytes=90-", (90, 100)), ("bytes=0-999", (0, 100)), ("x", (0, 100))],
)
def test_the_slow_storage_reads_a_range(header, wanted):
    assert span(header, 100) == wanted


def test_sizes_are_named_in_the_largest_unit():
    assert [named(size) for size in (5, 1024, 256 << 20, 1 << 30, 8 << 30)] == [
        "5 B",
        "1 KiB",
        "256 MiB",
        "1 GiB",
        "8 GiB",
    ]


def bench(folder: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    """A tiny run as a process, and what it printed."""
    command = [sys.executable, "-m", "benchmarks.run", "--sizes", "tiny", "--runs", "1", "--json", "--dir", str(folder)]
    done = subprocess.run(
        [*command, *arguments], cwd=TOP, env=os.environ, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.stdout, done.stderr
    assert list(folder.iterdir()) == []
    return done.returncode, json.loads(done.stdout)


def test_a_run_measures_without_any_peer_and_says_what_it_lacks(tmp_path):
    code, said = bench(tmp_path, "--only", "deliver,deliver-link,verify")
    measured = {line["figure"]: line for line in said["lines"]}
    assert {"deliver", "deliver-link"} <= set(measured)
    assert measured["deliver"]["what"] == "download of a cached file of 256 KiB"
    assert all(run > 0 for line in said["lines"] for run in line["ours"]["runs"])
    assert code == (2 if said["missing"] else 0)


@needs_nginx
def test_a_run_fetches_a_real_file_beside_curl(tmp_path):
    code, said = bench(tmp_path, "--only", "big-file")
    curl = next(line for line in said["lines"] if line["peer"]["who"] == "curl | tee | md5sum")
    assert curl["ours"]["median"] > 0
    assert curl["peer"]["median"] > 0
    assert (code == 2) == bool(said["missing"])
    if not tools.present(str(tools.PEERS_PYTHON)):
        assert any("official SDK: the peers' Python environment not found" in each["why"] for each in said["missing"])
