"""Memory does not grow with the size of a file. `benchmarks/memory.py` measures; these hold it to its word."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry_mirror.catalog import Catalog, WeightsRecord, migrate
from registry_mirror.digests import digest_file
from registry_mirror.files import PRIVATE
from registry_mirror.model import utc_now
from registry_mirror.store.layout import Layout
from registry_mirror.store.root import prepare

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "memory.py"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def benchmark():
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("memory_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        str(BENCHMARK),
        "--json",
        "--dir",
        str(folder),
        "--runs",
        "1",
        "--large-runs",
        "1",
        *args,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def test_a_sync_of_256_mib_peaks_within_64_mib_of_one_of_1_mib(tmp_path):
    done = run(tmp_path, "--size", "256 MiB")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert [each["fetched"] for each in said["small"] + said["large"]] == [MIB, 256 * MIB]
    assert said["difference"] <= 64 * MIB
    assert list(tmp_path.iterdir()) == []


def test_the_measurement_sees_memory_that_a_process_took_and_gave_back(benchmark, tmp_path):
    code = "block = bytearray({}); del block"
    held, seconds = benchmark.peak_of([sys.executable, "-c", code.format(200 * MIB)], os.environ, tmp_path / "out")
    bare, _ = benchmark.peak_of([sys.executable, "-c", code.format(0)], os.environ, tmp_path / "out")
    assert 190 * MIB < held - bare < 210 * MIB
    assert seconds > 0


def test_the_measurement_leaves_out_what_the_measuring_process_holds(benchmark, tmp_path):
    ballast = bytearray(200 * MIB)
    bare, _ = benchmark.peak_of([sys.executable, "-c", ""], os.environ, tmp_path / "out")
    assert bare < len(ballast) / 2


def test_a_difference_over_the_limit_is_a_failure(benchmark):
    def outcome(large):
        runs = [(benchmark.Measured(peak * MIB, 1.0, MIB),) for peak in (60, large)]
        return benchmark.Outcome(256 * MIB, 64 * MIB, *runs)

    assert outcome(124).within
    assert not outcome(125).within
    assert "NOT within 64 MiB" in benchmark.table(outcome(125))


def test_a_folder_without_room_is_said_before_anything_runs(tmp_path):
    done = run(tmp_path, "--size", "9000 TiB")
    assert done.returncode == 2
    assert "are needed" in done.stderr
    assert done.stdout == ""


def test_a_verify_of_128_mib_needs_no_more_memory_than_a_look(benchmark, tmp_path):
    root, size = Layout(tmp_path / "root"), 128 * MIB
    prepare(root, PRIVATE)
    migrate(root.catalog)
    (tmp_path / "zeros").touch()
    os.truncate(tmp_path / "zeros", size)
    digest = digest_file(tmp_path / "zeros")
    blob = root.blob(digest.md5, "onnx")
    blob.parent.mkdir()
    (tmp_path / "zeros").rename(blob)
    now = utc_now()
    with Catalog(root.catalog) as catalog:
        row = dict.fromkeys(("model_type", "architecture", "version", "created_at", "updated_at"))
        texts = dict.fromkeys(("id", "name", "fingerprint", "stamp"), "m") | {"status": "ready", "document": "{}"}
        catalog.models.record([row | texts], now)
        catalog.weights.record([WeightsRecord("m", "onnx", "1", digest.md5, digest.sha256, size, "m", True, now)])
    peaks = []
    for more in ("--quick", "--md5"):
        command = [sys.executable, "-m", "registry_mirror", "--root", str(root.root), "verify", "--json", more]
        peak, _ = benchmark.peak_of(command, os.environ, tmp_path / "out")
        assert json.loads((tmp_path / "out").read_text())["verify"]["checked"]["files"] == 1
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 16 * MIB
