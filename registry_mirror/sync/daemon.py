"""The daemon repeats the sync. Failures make the waits between runs longer; only a signal ends the daemon."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

from ..errors import Interrupted, LockedError
from ..store.faults import as_mirror_error
from ..store.layout import refuse_file
from .alert import notify, recording_failures
from .record import RunOutcome
from .run import SyncOptions, sync
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
    """The daemon's loop of runs and waits.

    Args:
        load: reads the settings and returns them with a function that reads the key. It is called before every run,
            so that an edit or a new key needs no restart.
        report: receives every finished run.
        say: writes a line to the log.
    """

    def __init__(
        self,
        load: Callable[[], tuple[Settings, Callable[[], Secret]]],
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
            ConfigurationError: the settings or the key are unusable at the start. Later, run() only logs that.
        """
        settings, read_key = self._load()
        self._stop.on_signals()
        with recording_failures(settings, self._say, self._stop):
            refuse_file(settings.root)
            read_key()
        signal.signal(signal.SIGHUP, self._on_hangup)
        self._notifier.ready(f"mirroring {settings.upstream.base_url}")
        try:
            while not self._stop.is_set():
                settings = self._once(settings)
        finally:
            self._notifier.stopping()

    def _once(self, settings: Settings) -> Settings:
        """Does one run and the wait after it. Returns the settings of this run, or those given if it cannot read any.

        When the settings cannot be read, the failure is recorded and alerted with those of the previous run.
        """
        self._wanted = False
        try:
            with recording_failures(settings, self._say, self._stop):
                settings, read_key = self._load()
            if self._sync(settings, read_key) is RunOutcome.FAILED:
                self._failures += 1
            else:
                self._failures = 0
        except LockedError as error:
            self._say(str(error))
        except Interrupted:
            return settings
        except Exception as error:  # noqa: BLE001 - only a signal may end the daemon
            self._failures += 1
            self._say(f"failed: {as_mirror_error(error)}")
        every, longest = settings.daemon.every, settings.daemon.max_backoff
        self._wait(wait_after(every, self._failures, longest, random.uniform(0.9, 1.1)))  # noqa: S311
        return settings

    def _sync(self, settings: Settings, read_key: Callable[[], Secret]) -> RunOutcome:
        with recording_failures(settings, self._say, self._stop):
            finished = sync(settings, read_key(), SyncOptions(), self._reporter, self._stop)
        self._notifier.status(finished.record.last_line())
        interrupted = isinstance(finished.error, Interrupted)
        try:
            self._report(finished)
        except OSError as error:  # standard output is broken, which is no reason to sync less often
            self._say(f"the record was not printed: {error.strerror}")
        if interrupted:
            raise Interrupted("interrupted")
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
    """Returns the seconds until the next run: the interval, doubled per failure in a row up to `longest`, times jitter.

    The jitter keeps a fleet of mirrors from calling one upstream in step.
    """
    return min(every * 2.0 ** min(failures, 20), max(every, longest)) * jitter
