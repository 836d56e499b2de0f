"""The operator's own command after a run that was not ok."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from .record import Outcome
from .stop import STEP

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import Settings
    from .record import RunRecord
    from .stop import Stop

_PATIENCE = 60.0


def notify(settings: Settings, record: RunRecord, say: Callable[[str], None], stop: Stop) -> None:
    """Runs `[sync] on_failure` with the record on its standard input, when the run was not ok.

    The command is the operator's: it is run as it stands, without a shell. It does not get the API key, and what it
    prints goes to standard error, since standard output is our data. That it fails is said, and nothing more: the run's
    own outcome must not be hidden by it.
    """
    command = settings.sync.on_failure
    if record.outcome is Outcome.OK or not command:
        return
    env = {name: value for name, value in os.environ.items() if name != settings.upstream.api_key_env}
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2, env=env, start_new_session=True)
    except OSError as error:
        say(f"sync.on_failure: {command[0]} did not run: {error.strerror or error}")
        return
    body = json.dumps({"run": record.as_json()}, ensure_ascii=False).encode()
    code = _outcome(process, body, stop)
    if code:
        say(f"sync.on_failure: {command[0]} {f'ended with {code}' if code > 0 else 'was ended: it took too long'}")


def _outcome(process: subprocess.Popen[bytes], body: bytes, stop: Stop) -> int:
    """The command's exit code. One that hangs, or that a signal to us finds running, is ended with its children."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            process.communicate(body, timeout=STEP)
        except subprocess.TimeoutExpired:
            stop.tick()
            if time.monotonic() < until and not stop.is_set():
                continue
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        return process.returncode
