"""The operator's own command after a run that was not ok, and after what ended before it was a run."""

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
"""Another run holds the root, nobody knows a model of that name, or somebody wanted the end."""

PATIENCE = 60.0
"""Seconds that the command gets."""

_LAST = 1.0
"""Seconds until one that was killed must be gone."""


@contextlib.contextmanager
def recording_failures(settings: Settings, say: Callable[[str], None], stop: Stop) -> Iterator[None]:
    """Around a run and what it needs: a failure outside of what the run records itself is recorded and told as well.

    `run.json` gets it where there is a root, and the operator's command in any case.

    Raises:
        MirrorError: what ended the block, in our words.
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
            return  # a path that was mistyped, or a disk that is not mounted: nothing is made there
        check_format(layout)
        write_run(layout, modes, record, ended_early=True)
    except (OSError, MirrorError) as later:
        if str(as_mirror_error(later)) != record.error:
            say(f"{layout.run_record.name} was not written: {as_mirror_error(later)}")


def notify(
    settings: Settings, record: RunRecord, say: Callable[[str], None], stop: Stop, patience: float = PATIENCE
) -> None:
    """Runs `[sync] on_failure` with the record on its standard input, when the run was not ok.

    The command is the operator's: it is run as it stands, without a shell. It does not get the API key, and what it
    prints goes to standard error, since standard output is our data. That it fails is said, and nothing more: the run's
    own outcome must not be hidden by it.

    Args:
        patience: seconds after which it is ended.
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
    """What went wrong with the command. One that hangs, or that a signal to us finds running, is ended with its group.

    It may read none of its input, and leave a child that holds the pipe: only its own end counts.
    """
    pipe = process.stdin
    assert pipe is not None  # noqa: S101 - it was asked for
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
    """Whether it is gone, with its group. One of another account, such as `sudo`, may not be ours to end."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LAST)
    return process.returncode is not None


def _given(pipe: int, left: memoryview) -> int:
    """Bytes that the pipe has taken, after at most a step; all of them when nobody reads it."""
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
