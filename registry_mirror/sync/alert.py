"""Runs the operator's own command after a run that was not ok, and after a failure before a run could begin."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from ..errors import Interrupted, LockedError, MirrorError, NotFoundError
from ..files import Modes
from ..model import json_bytes, utc_now
from ..store.faults import as_mirror_error
from ..store.layout import Layout
from ..store.root import check_format
from .record import RunOutcome, RunRecord, RunTally, write_run
from .stop import STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..config import Settings
    from .stop import Stop

_NO_FAILED_RUN = (LockedError, NotFoundError, Interrupted)
"""Errors that are no failed run: another run holds the root, a name is unknown, or someone interrupted the run."""

PATIENCE = 60.0
"""Seconds that the command may take."""

_LAST = 1.0
"""Seconds to wait for a command that was killed to disappear."""


@contextlib.contextmanager
def recording_failures(settings: Settings, say: Callable[[str], None], stop: Stop) -> Iterator[None]:
    """Wraps a run and its preparation, and records failures that the run does not record itself.

    Writes the failure to `run.json` when the root exists, and always runs the operator's command.

    Raises:
        MirrorError: the error that ended the block; any other exception is converted to one.
    """
    started_at = utc_now()
    try:
        yield
    except _NO_FAILED_RUN:
        raise
    except Exception as error:
        ended = as_mirror_error(error)
        record = RunRecord(RunOutcome.FAILED, RunTally(started_at), utc_now(), 0, 0, str(ended))
        _write(settings, record, say)
        notify(settings, record, say, stop)
        if ended is error:
            raise
        raise ended from error


def _write(settings: Settings, record: RunRecord, say: Callable[[str], None]) -> None:
    layout, modes = Layout(settings.root), Modes.for_sharing(settings.store.shared)
    try:
        if not layout.format_file.exists():
            return  # the path may be mistyped or its disk not mounted, so create nothing there
        check_format(layout)
        write_run(layout, modes, record, ended_early=True)
    except (OSError, MirrorError) as later:
        if str(as_mirror_error(later)) != record.error:
            say(f"{layout.run_record.name} was not written: {as_mirror_error(later)}")


def notify(
    settings: Settings, record: RunRecord, say: Callable[[str], None], stop: Stop, patience: float = PATIENCE
) -> None:
    """Runs `[sync] on_failure` with the record on its standard input, when the run was not ok.

    The command is run as configured, without a shell. Its environment lacks the API key, and its output goes to
    standard error, because standard output carries our data. If the command fails, this only says so: the failure
    must not hide the outcome of the run.

    Args:
        patience: seconds after which the command is killed.
    """
    command = settings.sync.on_failure
    if record.outcome is RunOutcome.OK or not command:
        return
    env = {name: value for name, value in os.environ.items() if name != settings.upstream.api_key_env}
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2, env=env, start_new_session=True, bufsize=0)
    except OSError as error:
        say(f"sync.on_failure: {command[0]} did not run: {error.strerror or error}")
        return
    if problem := _problem(process, json_bytes({"run": record.as_json()}), stop, time.monotonic() + patience):
        say(f"sync.on_failure: {command[0]} {problem}")


def _problem(process: subprocess.Popen[bytes], body: bytes, stop: Stop, until: float) -> str | None:
    """Feeds the command and waits for it. Returns what went wrong with it, or None.

    Kills the command and its process group when it runs past `until` or when this process gets a signal. Only the
    command's own exit counts: it may read none of its input, and a child of it may keep the pipe open.
    """
    pipe = process.stdin
    assert pipe is not None  # noqa: S101 - Popen was given stdin=PIPE
    with pipe:
        os.set_blocking(pipe.fileno(), False)
        left = memoryview(body)
        while process.poll() is None and time.monotonic() < until and not stop.is_set():
            if left:
                left = left[_given(pipe.fileno(), left) :]
            else:
                pipe.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STEP)
            stop.tick()
    if process.returncode is None:
        why = "it took too long" if not stop.is_set() else "a signal came"
        return f"was ended: {why}" if _ended(process) else f"could not be ended, and goes on: {why}"
    code = process.returncode
    return None if code == 0 else f"ended with {code}" if code > 0 else f"was ended by signal {-code}"


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Kills the process group and returns whether the process is gone. We may not kill another account's (`sudo`)."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LAST)
    return process.returncode is not None


def _given(pipe: int, left: memoryview) -> int:
    """Writes to the pipe after waiting at most `STEP`. Returns the bytes written, or all when no reader is left."""
    ready = select.poll()  # select() takes no descriptor above 1023
    ready.register(pipe, select.POLLOUT)
    if not ready.poll(1000 * STEP):
        return 0
    try:
        return os.write(pipe, left)
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(left)
