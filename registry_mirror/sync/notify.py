"""The operator's own command after a run that was not ok."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from .record import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import Settings
    from .record import RunRecord

_PATIENCE = 60.0


def notify(settings: Settings, record: RunRecord, say: Callable[[str], None]) -> None:
    """Runs `[sync] on_failure` with the record on its standard input, when the run was not ok.

    The command is the operator's: it is run as it stands, without a shell. That it fails is said, and nothing more: the
    run's own outcome must not be hidden by it.
    """
    command = settings.sync.on_failure
    if record.outcome is Outcome.OK or not command:
        return
    body = json.dumps({"run": record.as_json()}, ensure_ascii=False)
    try:
        done = subprocess.run(command, input=body.encode(), timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"sync.on_failure: {command[0]} did not run: {type(error).__name__}: {getattr(error, 'strerror', error)}")
        return
    if done.returncode:
        say(f"sync.on_failure: {command[0]} ended with {done.returncode}")
