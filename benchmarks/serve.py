"""`mirror serve` beside nginx on one machine: a whole file, the same in eight ranges, and small answers.

    python benchmarks/serve.py --size "1 GiB" --dir /dev/shm

Needs nginx, curl and wrk on the PATH. Runs alternate after a warm-up; each figure is a median, and the ratio is of
medians, so that a busy machine is busy for both. Exits with 1 when a ratio is under its target, with 2 when a tool is
missing or an answer was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from registry_mirror.index.entries import ModelEntry, WeightsEntry
from registry_mirror.index.publish import publish
from registry_mirror.store.layout import Layout
from registry_mirror.units import format_size, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RANGES = 8
CONNECTIONS = 16
BIG = "00000000-0000-4000-8000-000000000000"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
API = "/api/v1/developer/models"
NGINX = """
worker_processes {workers}; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; root {root}; default_type application/octet-stream; }} }}
"""


class NotMeasuredError(Exception):
    """There is no figure; the message says why."""


@dataclass(frozen=True)
class Compared:
    """One figure: ours against a peer's. `larger_is_better` for rates, else seconds."""

    what: str
    ours: float
    peer: float
    unit: str
    target: float
    ours_all: tuple[float, ...]
    peer_all: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Our speed over the peer's."""
        return self.ours / self.peer if self.unit.endswith("/s") else self.peer / self.ours

    @property
    def met(self) -> bool:
        return self.ratio >= self.target


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    try:
        need("nginx", "curl", "wrk")
        with tempfile.TemporaryDirectory(prefix="mirror-bench-", dir=options.dir) as folder:
            figures = measure(Path(folder), parse_size(options.size), options.models, options.runs, options.seconds)
    except NotMeasuredError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([{**asdict(figure), "ratio": figure.ratio} for figure in figures], indent=2))
    else:
        print_table(figures)
    return 0 if all(figure.met for figure in figures) else 1


def need(*tools: str) -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        raise NotMeasuredError(f"{', '.join(missing)} not found; install it and try again")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1 GiB", help="of the one large file")
    parser.add_argument("--models", type=int, default=10_000, help="in the index")
    parser.add_argument("--runs", type=int, default=7, help="counted runs of each")
    parser.add_argument("--seconds", type=int, default=3, help="that each run of small answers takes")
    parser.add_argument("--dir", default=None, help="where the root is made; /dev/shm keeps the disk out of it")
    parser.add_argument("--json", action="store_true", help="every run")
    return parser.parse_args(argv)


def measure(folder: Path, size: int, models: int, runs: int, seconds: int) -> list[Compared]:
    root = folder / "root"
    blob = make_root(root, size, models)
    with nginx(folder, root) as peer, mirror(root) as ours:
        url = download_url(ours, BIG)
        whole_ours, whole_peer = alternate(
            runs, lambda: fetch_whole(url, size), lambda: fetch_whole(f"{peer}/{blob}", size)
        )
        parts_ours, parts_peer = alternate(
            runs, lambda: fetch_ranges(url, size), lambda: fetch_ranges(f"{peer}/{blob}", size)
        )
        rate_ours, rate_constant = alternate(
            runs, lambda: rate(f"{ours}{API}/model-00777", seconds), lambda: rate(f"{ours}/healthz", seconds)
        )
    return [
        compared(f"{format_size(size)} whole, against nginx", whole_ours, whole_peer, "s", 0.95),
        compared(f"{format_size(size)} in {RANGES} ranges, against nginx", parts_ours, parts_peer, "s", 0.5),
        compared(
            f"GET /models/NAME of {models:,}, against a constant answer", rate_ours, rate_constant, "answers/s", 0.4
        ),
    ]


def compared(what: str, ours: list[float], peer: list[float], unit: str, target: float) -> Compared:
    return Compared(what, median(ours), median(peer), unit, target, tuple(ours), tuple(peer))


def alternate(runs: int, ours: Callable[[], float], peer: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Both in turn, after one of each that does not count."""
    ours()
    peer()
    pairs = [(ours(), peer()) for _ in range(runs)]
    return [mine for mine, _ in pairs], [theirs for _, theirs in pairs]


def make_root(root: Path, size: int, models: int) -> str:
    """A root with one large file and many small models; gives the large one's path in it."""
    layout = Layout(root)
    md5 = write_blob(layout, size)
    big = WeightsEntry("onnx", "1", md5, None, size, NOW)

    def entries(_since: int | None) -> Iterator[ModelEntry]:
        yield entry(BIG, "big", (big,))
        for number in range(models - 1):
            yield entry(f"00000000-0000-4000-8000-{number + 1:012d}", f"model-{number:05d}", (big,))

    publish(
        layout.index,
        layout.incoming,
        catalog_id="0" * 32,
        revision=1,
        entries_since=entries,
        meta={"organization_id": "0" * 8},
    )
    return str(layout.blob(md5, "onnx").relative_to(root))


def write_blob(layout: Layout, size: int) -> str:
    grown = layout.root / "grown"
    layout.root.mkdir(parents=True)
    digest, block = hashlib.md5(usedforsecurity=False), os.urandom(1 << 20)
    with grown.open("wb") as stream:
        for number in range(0, size, len(block)):
            piece = (number.to_bytes(8, "big") + block[8:])[: size - number]
            digest.update(piece)
            stream.write(piece)
    blob = layout.blob(digest.hexdigest(), "onnx")
    blob.parent.mkdir(parents=True)
    grown.rename(blob)
    return digest.hexdigest()


def entry(model_id: str, name: str, weights: tuple[WeightsEntry, ...]) -> ModelEntry:
    moment = "2026-03-01T08:00:00.250000+00:00"
    document = {
        "id": model_id,
        "organization_id": "0b7d2f60-9c1e-4a3b-8f55-3f2f6b1d9e10",
        "name": name,
        "description": "What stands on the floor of the hall, by day.",
        "model_type": "object_detection",
        "architecture": "yolox-s",
        "visibility": "private",
        "status": "ready",
        "metrics": {"mAP": 0.61, "precision": 0.72, "recall": 0.58},
        "class_mapping": {"classes": ["forklift", "person", "pallet", "box"]},
        "training_config": {"image_height": 640, "image_width": 640, "model_size": "s", "epochs": 80},
        "version": "1.0.0",
        "precision": "fp32",
        "created_at": moment,
        "updated_at": moment,
    }
    return ModelEntry(
        json.dumps(document), model_id, name, "ready", "object_detection", "yolox-s", moment, moment, NOW, None, weights
    )


@contextlib.contextmanager
def nginx(folder: Path, root: Path) -> Iterator[str]:
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, root=root, port=port, workers=os.cpu_count()))
    process = subprocess.Popen(["nginx", "-c", str(config), "-e", str(folder / "error.log")])
    try:
        base = f"http://127.0.0.1:{port}"
        wait_for(f"{base}/index.sqlite")
        yield base
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def mirror(root: Path) -> Iterator[str]:
    """The server as it is installed, its access log included."""
    port = free_port()
    command = [sys.executable, "-m", "registry_mirror", "--root", str(root), "serve", "--port", str(port)]
    with (root.parent / "access.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        base = f"http://127.0.0.1:{port}"
        wait_for(f"{base}/readyz")
        yield base
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with contextlib.suppress(OSError), urlopen(url):
            return
        time.sleep(0.05)
    raise NotMeasuredError(f"{url} never answered")


def download_url(base: str, model_id: str) -> str:
    with urlopen(f"{base}{API}/{model_id}/download") as answer:
        return str(json.load(answer)["data"]["download_url"])


def fetch_whole(url: str, size: int) -> float:
    """Seconds that one curl takes."""
    began = time.monotonic()
    got = curl(url)
    failed = got.wait()
    took = time.monotonic() - began
    if failed or int(got.stdout.read() if got.stdout else b"0") != size:
        raise NotMeasuredError(f"{url.partition('?')[0]} was not whole")
    return took


def fetch_ranges(url: str, size: int) -> float:
    """Seconds until the last of eight curls is done."""
    step = -(-size // RANGES)
    began = time.monotonic()
    running = [curl(url, "-r", f"{start}-{min(start + step, size) - 1}") for start in range(0, size, step)]
    failed = [each.wait() for each in running]
    took = time.monotonic() - began
    total = sum(int(each.stdout.read() if each.stdout else b"0") for each in running)
    if any(failed) or total != size:
        raise NotMeasuredError(f"{url.partition('?')[0]} was not whole in ranges")
    return took


def curl(url: str, *options: str) -> subprocess.Popen[bytes]:
    command = ["curl", "-sS", "--fail", "-o", os.devnull, "-w", "%{size_download}", *options, url]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def rate(url: str, seconds: int) -> float:
    """Answers in a second, on sixteen connections."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if found is None or "Non-2xx" in said:
        raise NotMeasuredError(f"wrk did not get answers from {url}")
    return float(found[1])


def print_table(figures: list[Compared]) -> None:
    rows: list[tuple[Any, ...]] = [("", "mirror", "peer", "ratio", "target")]
    for each in figures:
        unit = "" if each.unit == "s" else " /s"
        shown = [f"{value:,.2f} s" if not unit else f"{value:,.0f}{unit}" for value in (each.ours, each.peer)]
        verdict = "" if each.met else "  missed"
        rows.append((each.what, *shown, f"{each.ratio:.2f}", f"{each.target:.2f}{verdict}"))
    widths = [max(len(str(row[place])) for row in rows) for place in range(5)]
    for row in rows:
        print("  ".join(f"{cell!s:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
