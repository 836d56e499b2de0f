"""Peak memory of `mirror sync` as a whole process: one large file against one small file, over real HTTP.

    python benchmarks/memory.py --size "2 GiB" --dir /var/tmp

Exits with 1 when the large file costs more than `--limit` above the small one, and with 2 when it cannot measure.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from registry_mirror.demo import DemoModel, DemoUpstream, DemoWeights, SyntheticBytes
from registry_mirror.units import format_size, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from multiprocessing.connection import Connection

MIB = 1024 * 1024
SMALL = MIB
SPARE = 100 * MIB
API_KEY = "pk_live_benchmark"

# Linux counts what the parent held at the moment of the fork into ru_maxrss, so this process, which is large, may not
# start what it measures. The launcher holds a few MiB.
LAUNCHER = """
import json, os, sys, time
began = time.monotonic()
output = (os.POSIX_SPAWN_OPEN, 1, sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ, file_actions=[output])
_, status, usage = os.wait4(pid, 0)
peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
code = os.waitstatus_to_exitcode(status)
print(json.dumps({"peak": peak, "seconds": time.monotonic() - began, "code": code}))
"""


class NotMeasuredError(Exception):
    """There is no figure; the message says why."""


@dataclass(frozen=True)
class Measured:
    """One process. `peak` and `fetched` are bytes."""

    peak: int
    seconds: float
    fetched: int

    @property
    def speed(self) -> float:
        """Megabytes (10^6) a second, start of the interpreter included."""
        return self.fetched / self.seconds / 1e6


@dataclass(frozen=True)
class Outcome:
    """All runs of both files. `size` and `limit` are bytes."""

    size: int
    limit: int
    small: tuple[Measured, ...]
    large: tuple[Measured, ...]

    @property
    def difference(self) -> int:
        """Bytes by which the worst large run is above the best small one."""
        return max(run.peak for run in self.large) - min(run.peak for run in self.small)

    @property
    def within(self) -> bool:
        """Whether the difference keeps to the limit."""
        return self.difference <= self.limit


def peak_of(command: Sequence[str], env: Mapping[str, str], output: Path) -> tuple[int, float]:
    """Runs a command with its standard output in a file; its peak resident memory in bytes, and its seconds.

    Raises:
        NotMeasuredError: it ended with another code than 0.
    """
    launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(output), *command]
    done = subprocess.run(launch, env=dict(env), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotMeasuredError(f"{command[0]} did not start: {done.stderr.strip()}")
    said = json.loads(done.stdout)
    if said["code"] != 0:
        raise NotMeasuredError(f"{' '.join(command)} ended with {said['code']}: {done.stderr.strip()}")
    return int(said["peak"]), float(said["seconds"])


def sync_once(base_url: str, size: int, folder: Path) -> Measured:
    """One first sync of an upstream that holds one file, into a root that is removed afterwards.

    Raises:
        NotMeasuredError: it failed, or fetched something else than `size` bytes.
    """
    with tempfile.TemporaryDirectory(dir=folder) as home:
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
        env = {
            **kept,
            "HOME": home,
            "MIRROR_ROOT": f"{home}/root",
            "PICTOGRAPH_API_KEY": API_KEY,
            "PICTOGRAPH_BASE_URL": base_url,
        }
        output = Path(home, "record.json")
        peak, seconds = peak_of([sys.executable, "-m", "registry_mirror", "sync", "--json"], env, output)
        fetched = json.loads(output.read_text())["run"]["fetched"]
    if fetched != {"files": 1, "bytes": size}:
        raise NotMeasuredError(f"the sync was to fetch one file of {size} bytes, and says it fetched {fetched}")
    return Measured(peak, seconds, size)


def one_file(size: int) -> DemoModel:
    """A ready model with one synthetic file."""
    moment = "2026-01-01T00:00:00+00:00"
    document = {
        "id": "00000000-0000-4000-8000-000000000001",
        "name": "one file",
        "model_type": "object_detection",
        "status": "ready",
        "version": "1.0.0",
        "created_at": moment,
        "updated_at": moment,
    }
    return DemoModel(document, {"onnx": DemoWeights(SyntheticBytes(size))})


def serve(pipe: Connection, sizes: Sequence[int]) -> None:
    """One upstream a size, until the other end of the pipe closes. Sends their base URLs."""
    models = [one_file(size) for size in sizes]
    for model in models:
        _ = model.weights["onnx"].md5  # takes seconds for gigabytes, which belong to no sync
    with contextlib.ExitStack() as running:
        upstreams = [running.enter_context(DemoUpstream([model], api_key=API_KEY)) for model in models]
        pipe.send([upstream.base_url for upstream in upstreams])
        with contextlib.suppress(EOFError):
            pipe.recv()


@contextlib.contextmanager
def upstreams_of(sizes: Sequence[int]) -> Iterator[list[str]]:
    """Base URLs of upstreams with one file of each size, in a process of their own."""
    # Spawned: a forked process would hold this one's end of the pipe open, and never see it close.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, tuple(sizes)), daemon=True)
    process.start()
    there.close()
    try:
        yield here.recv()
    except EOFError:
        raise NotMeasuredError("the upstream in a box did not start") from None
    finally:
        here.close()
        process.join()


def measure(size: int, *, limit: int, runs: int, large_runs: int, folder: Path) -> Outcome:
    """All runs, after a warm-up that fills the caches of bytecode and files.

    Raises:
        NotMeasuredError: a run failed, or the folder has no room.
    """
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        raise NotMeasuredError(f"{folder} has {format_size(free)} free, and {format_size(size + SPARE)} are needed")
    with upstreams_of((SMALL, size)) as (small_url, large_url):
        sync_once(small_url, SMALL, folder)
        small = tuple(sync_once(small_url, SMALL, folder) for _ in range(runs))
        large = tuple(sync_once(large_url, size, folder) for _ in range(large_runs))
    return Outcome(size, limit, small, large)


def table(outcome: Outcome) -> str:
    """What a person reads."""
    lines = ["one file of  runs  peak, MiB  lowest  highest  seconds  MB/s"]
    for size, runs in ((SMALL, outcome.small), (outcome.size, outcome.large)):
        peaks = [run.peak / MIB for run in runs]
        seconds, speed = median(run.seconds for run in runs), median(run.speed for run in runs)
        lines.append(
            f"{format_size(size):<11} {len(runs):>5} {median(peaks):>10.1f} {min(peaks):>7.1f} {max(peaks):>8.1f} "
            f"{seconds:>8.2f} {speed:>5.0f}"
        )
    verdict = "within" if outcome.within else "NOT within"
    lines.append(f"difference: {outcome.difference / MIB:.1f} MiB, {verdict} {outcome.limit / MIB:g} MiB")
    return "\n".join(lines)


def as_json(outcome: Outcome) -> str:
    """The same for programs; sizes in bytes, highest large peak less lowest small one as `difference`."""
    return json.dumps({**asdict(outcome), "difference": outcome.difference, "within": outcome.within})


def main() -> int:
    """Measures, prints, judges."""
    parser = argparse.ArgumentParser(description="Peak memory of `mirror sync`: one large file against one of 1 MiB.")
    parser.add_argument("--size", type=parse_size, default="2 GiB", help="of the large file [%(default)s]")
    parser.add_argument("--limit", type=parse_size, default="64 MiB", help="allowed difference [%(default)s]")
    parser.add_argument("--runs", type=int, default=5, help="of the small file [%(default)s]")
    parser.add_argument("--large-runs", type=int, default=2, help="of the large file [%(default)s]")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="on a disk [%(default)s]")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    asked = parser.parse_args()
    if min(asked.runs, asked.large_runs) < 1:
        parser.error("--runs and --large-runs begin at 1")
    try:
        outcome = measure(asked.size, limit=asked.limit, runs=asked.runs, large_runs=asked.large_runs, folder=asked.dir)
    except (NotMeasuredError, OSError) as error:
        print(f"memory.py: {error}", file=sys.stderr)
        return 2
    print(as_json(outcome) if asked.json else table(outcome))
    return 0 if outcome.within else 1


if __name__ == "__main__":
    sys.exit(main())
