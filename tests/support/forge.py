"""A process that has imported everything and forks for each operation, so that a kill costs milliseconds.

    python -m support.forge        one job a line on standard input, one verdict a line on standard output, as JSON

A child counts what it does to the disk: files made, written, synced, renamed and removed, statements that change a
database, commits. It kills itself at the one that its job names: before it, after it, or in the middle of a write. Or a
timer of the kernel's kills it, between any two instructions.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import signal
import socket
import sqlite3
import struct
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

# Everything that an operation needs, heavy or not: a child finds it here.
import alembic.command
import alembic.runtime.migration
import sqlalchemy.dialects.sqlite

from registry_mirror import catalog, digests, files, migrations, mirror, writer
from registry_mirror.catalog import database
from registry_mirror.config import load_settings
from registry_mirror.errors import MirrorError
from registry_mirror.secret import Secret
from registry_mirror.store import adopt, deliver
from registry_mirror.sync.reporter import Reporter
from registry_mirror.sync.run import SyncOptions, sync
from registry_mirror.sync.single import fetch_model
from registry_mirror.sync.stop import Stop
from registry_mirror.upkeep import pins
from registry_mirror.upkeep.gc import collect as gc
from registry_mirror.upkeep.verify import run as verify
from registry_mirror.upkeep.verify.record import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry_mirror.config import Settings

READY = (alembic, sqlalchemy, digests, migrations, mirror, database, adopt)
_CALLS = ("replace", "rename", "unlink", "remove", "link", "mkdir", "fsync", "fchmod", "chmod", "utime", "truncate")
_CHANGES = ("BEGIN", "INSERT", "UPDATE", "DELETE", "COMMIT", "CREATE", "ALTER", "DROP", "REPLACE")
_NAME = 200


def die() -> NoReturn:
    """Ends at once: no handler, no `finally`, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still here")


class Page:
    """A number and a name that outlive the process that wrote them."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def note(self, number: int, name: str) -> None:
        """What is about to be done."""
        text = name.encode("utf-8", "replace")[:_NAME]
        self._memory[: 8 + len(text)] = struct.pack("<II", number, len(text)) + text

    def read(self) -> tuple[int, str]:
        """The last of it."""
        number, length = struct.unpack("<II", self._memory[:8])
        return number, self._memory[8 : 8 + length].decode("utf-8", "replace")


class Fuse:
    """Counts the steps of a process, and ends it at one of them.

    Args:
        at: the number of the fatal step; 0 for none.
        after: whether that step is still done; half of it, when it is a write.
    """

    def __init__(self, page: Page, at: int, *, after: bool) -> None:
        self._page, self._at, self._after = page, at, after
        self._lock, self._steps = threading.Lock(), 0

    def step(self, name: str, act: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        """One step."""
        with self._lock:
            self._steps += 1
            mine = self._steps
            self._page.note(mine, name)
        fatal = mine == self._at
        if fatal and not self._after:
            die()
        if fatal and half is not None:
            half()
            die()
        result = act()
        if fatal:
            die()
        return result

    def arm(self) -> None:
        """Puts itself before everything that changes the disk."""
        for name in _CALLS:
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        opening = os.open

        def open_(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if not flags & os.O_CREAT:
                return opening(path, flags, *args, **kwargs)
            return int(self.step(f"create {path}", lambda: opening(path, flags, *args, **kwargs)))

        os.open = open_
        self._arm_writes()
        self._arm_databases()

    def _wrapped(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.step(f"{name} {args}", lambda: original(*args, **kwargs))

        return call

    def _arm_writes(self) -> None:
        original = files.write_all

        def write_all(stream: Any, data: bytes | memoryview) -> None:
            half = memoryview(data)[: len(data) // 2]
            name = f"write {len(data)} to {stream.name}"
            self.step(name, lambda: original(stream, data), lambda: original(stream, half))

        for module in list(sys.modules.values()):
            if getattr(module, "write_all", None) is original:
                module.write_all = write_all  # type: ignore[attr-defined]

    def _arm_databases(self) -> None:
        fuse, connect = self, sqlite3.connect

        class Cursor(sqlite3.Cursor):
            def execute(self, sql: str, *args: Any) -> Any:
                return _stepped(fuse, sql, lambda: sqlite3.Cursor.execute(self, sql, *args))

            def executemany(self, sql: str, *args: Any) -> Any:
                return _stepped(fuse, sql, lambda: sqlite3.Cursor.executemany(self, sql, *args))

        class Connection(sqlite3.Connection):
            def cursor(self, *_args: Any) -> Any:
                return super().cursor(Cursor)

            def execute(self, sql: str, *args: Any) -> Any:
                return _stepped(fuse, sql, lambda: sqlite3.Connection.execute(self, sql, *args))

            def executemany(self, sql: str, *args: Any) -> Any:
                return _stepped(fuse, sql, lambda: sqlite3.Connection.executemany(self, sql, *args))

            def commit(self) -> None:
                fuse.step("commit", lambda: sqlite3.Connection.commit(self))

        def connect_counted(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            return connect(*args, factory=Connection, **kwargs)

        sqlite3.connect = connect_counted  # type: ignore[assignment]


def _stepped(fuse: Fuse, sql: str, act: Callable[[], Any]) -> Any:
    word = sql.lstrip()[:8].upper()
    return fuse.step(f"sql {sql[:60]}", act) if word.startswith(_CHANGES) else act()


# -- operations ---------------------------------------------------------------------------------------------------


def _settings(job: Mapping[str, Any]) -> Settings:
    overrides = {"upstream.base_url": job["base_url"], "upstream.retry_budget": "0s", **job.get("overrides", {})}
    return load_settings(root=Path(job["root"]), env={}, overrides=overrides).settings


def _sync(job: Mapping[str, Any], settings: Settings) -> int:
    options = SyncOptions(accept_shrink=True, wait=bool(job.get("wait")))
    return sync(settings, Secret(job["key"]), options, Reporter(), Stop()).exit_code


def _sync_unpublished(job: Mapping[str, Any], settings: Settings) -> int:
    """A sync that dies when it is about to publish: what it recorded waits in the catalog."""
    writer.Writer.publish_index = lambda *_: die()  # type: ignore[method-assign]
    return _sync(job, settings)


def _publish(_job: Mapping[str, Any], settings: Settings) -> int:
    with writer.open_writer(settings, time.sleep, locked=False) as opened:
        opened.publish_index()
    return 0


def _verify(job: Mapping[str, Any], settings: Settings) -> int:
    options, stop = verify.VerifyOptions(**job["options"]), Stop()
    record = verify.verify(settings, options, Watcher(), stop)
    if options.repair:
        verify.repair_after(settings, Secret(job["key"]), options, record, Reporter(), stop)
    return 0


def _gc(_job: Mapping[str, Any], settings: Settings) -> int:
    for _ in range(2):  # the first one takes names away, the second one files
        gc.collect(settings, settings.retention, time.sleep)
    return 0


def _migrate(_job: Mapping[str, Any], settings: Settings) -> int:
    pins.unpin(settings, [], time.sleep)
    return 0


def _download(job: Mapping[str, Any], settings: Settings) -> int:
    fetch_model(settings, Secret(job["key"]), job["model"], "onnx", Reporter(), Stop())
    found = mirror.Mirror(settings.root).models.path(job["model"])
    deliver.deliver(found, Path(job["output"]))
    return 0


def _pin(job: Mapping[str, Any], settings: Settings) -> int:
    act = pins.unpin if job["remove"] else pins.pin
    act(settings, job["ids"], time.sleep)
    return 0


OPERATIONS: dict[str, Callable[[Mapping[str, Any], Settings], int]] = {
    "sync": _sync,
    "sync, unpublished": _sync_unpublished,
    "publish": _publish,
    "verify": _verify,
    "gc": _gc,
    "migrate": _migrate,
    "download": _download,
    "pin": _pin,
}


def _child(job: Mapping[str, Any], page: Page) -> NoReturn:
    code = 70
    try:
        page.note(0, "")
        settings = _settings(job)
        if job.get("lying"):
            fcntl.flock = lambda *_: None  # every lock is granted to everybody
        if job.get("host"):
            socket.gethostname = lambda: job["host"]
        Fuse(page, job.get("at", 0), after=bool(job.get("after"))).arm()
        if job.get("timer"):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the process, as a kill does
            signal.setitimer(signal.ITIMER_REAL, job["timer"])
        code = OPERATIONS[job["op"]](job, settings)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except MirrorError as error:
        print(f"{job['op']}: {error}", file=sys.stderr)
        code = error.exit_code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Serves jobs until standard input ends."""
    page = Page()
    assert catalog.needs_migration(Path("/nonexistent/catalog.sqlite"))
    for line in sys.stdin:
        began, pid = time.monotonic(), os.fork()
        if pid == 0:
            _child(json.loads(line), page)
        _, status = os.waitpid(pid, 0)
        steps, last = page.read()
        verdict = {
            "killed": os.WIFSIGNALED(status),
            "code": None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status),
            "steps": steps,
            "last": last,
            "seconds": time.monotonic() - began,
        }
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    main()
