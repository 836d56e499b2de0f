"""`mirror serve` beside nginx: a whole file, the same in eight ranges, and small answers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.request import urlopen

from .. import tools
from ..lines import Kind, NotMeasuredError, Target
from ..nginx import free_port, nginx, wait_for
from ..roots import BIG, big_root
from ..setting import OURS, Contender, against, named
from ..upstream import model_id, model_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..lines import Line
    from ..roots import Root
    from ..setting import Setting

NGINX, CONSTANT = "nginx", "mirror serve, a constant answer"
RANGES = 8
CONNECTIONS = 16
API = "/api/v1/developer/models"
_ANY_NAME = 'request = function() return wrk.format("GET", string.format("%s%%06d", math.random(%d) - 1)) end'
_SERVER = "server {{ listen 127.0.0.1:{port}; root {root}; }}"


@dataclass(frozen=True)
class Pair:
    """The base URLs of both servers over one root, and the large file's address at each."""

    root: Root
    ours: str
    our_file: str
    peer_file: str


def whole(setting: Setting) -> list[Line]:
    """One large file, to one curl."""
    pair = _pair(setting)
    what = f"serve: one file of {named(pair.root.size)}"
    return _compared(setting, what, pair, ["-"], 0.95)


def ranges(setting: Setting) -> list[Line]:
    """The same to eight curls at once, an eighth each. A Range takes the slower way through Python."""
    pair = _pair(setting)
    size = pair.root.size
    step = -(-size // RANGES)
    parts = [f"{start}-{min(start + step, size) - 1}" for start in range(0, size, step)]
    return _compared(setting, f"serve: {named(size)} in {RANGES} ranges", pair, parts, 0.5)


def answers(setting: Setting) -> list[Line]:
    """Documents by name, on sixteen connections, against the cheapest answer of the same server.

    Once by one name, as machines that all deploy the same model ask, and once by any, most of them not asked for yet.
    """
    tools.require("wrk")
    pair = _pair(setting)
    seconds, models = setting.sizes.seconds, max(1, setting.sizes.models // 10)
    any_name = setting.folder / "names.lua"
    any_name.write_text(_ANY_NAME % (f"{API}/{model_name(0)[:-6]}", models))
    asked = {
        "one name": lambda: _rate(f"{pair.ours}{API}/{model_name(models // 2)}", seconds),
        "any name": lambda: _rate(pair.ours, seconds, "-s", str(any_name)),
    }
    constant = Contender(CONSTANT, lambda: _rate(f"{pair.ours}/healthz", seconds), "wrk")
    lines = []
    for which, ask in asked.items():
        series = setting.alternate([Contender(OURS, ask), constant], "answers/s")
        what = f"serve: GET /models/NAME of {models:,}, {which}"
        lines += against(what, series, {CONSTANT: Target(Kind.SPEED, 0.4)})
    return lines


def _compared(setting: Setting, what: str, pair: Pair, parts: list[str], target: float) -> list[Line]:
    size = pair.root.size
    contenders = [
        Contender(OURS, lambda: tools.timed(lambda: _fetch(pair.our_file, parts, size))),
        Contender(NGINX, lambda: tools.timed(lambda: _fetch(pair.peer_file, parts, size)), "nginx"),
    ]
    return against(what, setting.alternate(contenders), {NGINX: Target(Kind.SPEED, target)})


def _pair(setting: Setting) -> Pair:
    tools.require("curl", "nginx")
    root = big_root(setting)
    return setting.shared("servers", lambda: _servers(setting, root))


@contextlib.contextmanager
def _servers(setting: Setting, root: Root) -> Iterator[Pair]:
    port = free_port()
    with (
        nginx(setting.folder / "nginx", _SERVER.format(port=port, root=root.folder), port),
        _mirror(setting, root) as ours,
        urlopen(f"{ours}{API}/{model_id(BIG)}/download") as answer,
    ):
        peer_file = f"http://127.0.0.1:{port}/{root.blob.relative_to(root.folder)}"
        yield Pair(root, ours, str(json.load(answer)["data"]["download_url"]), peer_file)


@contextlib.contextmanager
def _mirror(setting: Setting, root: Root) -> Iterator[str]:
    """The server as it is installed, its access log included."""
    port = free_port()
    command = [sys.executable, "-m", "registry_mirror", "--root", str(root.folder), "serve", "--port", str(port)]
    with (setting.folder / "access.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env=tools.environment())
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _fetch(url: str, parts: list[str], size: int) -> None:
    """Until the last of several curls is done, each with a range of its own; `-` is the whole file."""
    running = [_curl(url, *(() if each == "-" else ("-r", each))) for each in parts]
    said = [(process.communicate()[0], process.returncode) for process in running]
    if any(code for _, code in said) or sum(int(got) for got, _ in said) != size:
        raise NotMeasuredError(f"{url.partition('?')[0]} was not whole")


def _curl(url: str, *options: str) -> subprocess.Popen[bytes]:
    command = ["curl", "-sS", "--fail", "-o", os.devnull, "-w", "%{size_download}", *options, url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=tools.environment())


def _rate(url: str, seconds: int, *options: str) -> float:
    """Answers in a second."""
    said = tools.run(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *options, url])
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if found is None or "Non-2xx" in said:
        raise NotMeasuredError(f"wrk did not get answers from {url}")
    return float(found[1])
