"""Sync, repeated. A failing upstream makes the waits longer; nothing but a signal ends the daemon."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

from ..errors import Interrupted, LockedError
from .notify import notify
from .record import Outcome
from .run import Options, named, sync
from .stop import STEP, Stop

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from ..config import Settings
    from ..secret import Secret
    from ..systemd import Notifier
    from .reporter import Reporter
    from .run import Finished


class Daemon:
    """The loop.

    Args:
        load: reads the settings and the key; called before every run, so that an edit or a new key needs no restart.
        report: is given every finished run.
        say: takes a line for the log.
    """

    def __init__(
        self,
        load: Callable[[], tuple[Settings, Secret]],
        reporter: Reporter,
        notifier: Notifier,
        report: Callable[[Finished], None],
        say: Callable[[str], None],
    ) -> None:
        self._load, self._reporter, self._notifier = load, reporter, notifier
        self._report, self._say = report, say
        self._stop = Stop(notifier.alive)
        self._wanted = False
        self._failures = 0

    def run(self) -> None:
        """Runs until SIGTERM or SIGINT; SIGHUP begins a run at once.

        Raises:
            ConfigurationError: the settings are unusable when it starts; later it says so and goes on.
        """
        settings, _ = self._load()
        self._stop.on_signals()
        signal.signal(signal.SIGHUP, self._on_hangup)
        self._notifier.ready(f"mirroring {settings.upstream.base_url}")
        try:
            while not self._stop.is_set():
                self._once()
        finally:
            self._notifier.stopping()

    def _once(self) -> None:
        """One run and the wait after it."""
        self._wanted = False
        every, longest = 900.0, 3600.0
        try:
            settings, key = self._load()
            every, longest = settings.daemon.every, settings.daemon.max_backoff
            if self._sync(settings, key) is Outcome.FAILED:
                self._failures += 1
            else:
                self._failures = 0
        except LockedError as error:
            self._say(str(error))
        except Interrupted:
            return
        except Exception as error:  # noqa: BLE001 - nothing but a signal ends the daemon
            self._failures += 1
            self._say(f"failed: {named(error)}")
        self._wait(wait_after(every, self._failures, longest, random.uniform(0.9, 1.1)))  # noqa: S311

    def _sync(self, settings: Settings, key: Secret) -> Outcome:
        finished = sync(settings, key, Options(), self._reporter, self._stop)
        self._report(finished)
        self._notifier.status(finished.record.last_line())
        if isinstance(finished.error, Interrupted):
            raise finished.error
        notify(settings, finished.record, self._say, self._stop)
        return finished.record.outcome

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._wanted and not self._stop.is_set():
            self._notifier.alive()
            time.sleep(min(STEP, max(0.0, until - time.monotonic())))

    def _on_hangup(self, _signal: int, _frame: FrameType | None) -> None:
        self._wanted = True


def wait_after(every: float, failures: int, longest: float, jitter: float) -> float:
    """Seconds until the next run: the interval, doubled for each failure in a row up to `longest`, times the jitter.

    The jitter keeps a fleet of mirrors from calling one upstream in step.
    """
    return min(every * 2.0 ** min(failures, 20), max(every, longest)) * jitter
