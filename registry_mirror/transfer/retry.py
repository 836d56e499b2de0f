"""Decides whether a failed call is tried again, and how long to wait first."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import tenacity

from ..errors import ApiError, NetworkError, RateLimitError, TransferError
from .responses import TRANSIENT

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LONGEST_RETRY_AFTER = 60.0
"""Seconds. A longer `Retry-After` means the hourly limit: the run ends early, and the next run continues."""

_SHARES = (1 / 13, 3 / 13, 9 / 13)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Four tries. Each wait between them is three times the last; together they take about `budget` seconds.

    A `Retry-After` of up to a minute replaces a shorter wait. `sleep` may raise to end the work.
    """

    budget: float = 20.0
    sleep: Callable[[float], None] = time.sleep

    def call(self, act: Callable[[], T], progressed: Callable[[], bool] = lambda: False) -> T:
        """Runs `act` until it succeeds, its error is not transient, or no tries are left. Then raises its last error.

        `progressed` is called after each failure. If it returns True, that failure counts as the first one again.
        """
        tries = _Tries(progressed)
        try:
            return tries.counted(act)
        except Exception as error:  # noqa: BLE001 - `_again` raises it unless it is transient
            first = error
        # tenacity is set up only after a failure: that costs as much as a small response, and most calls succeed.
        return self._again(act, tries, first)

    def _again(self, act: Callable[[], T], tries: _Tries, first: Exception) -> T:
        """Runs the tries after the first, which failed with `first`."""
        failed = [first]

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = getattr(error, "retry_after", None) or 0.0
            return wait_before(tries.failed, self.budget, asked, random.uniform(0.75, 1.25))  # noqa: S311

        retrying = tenacity.Retrying(
            stop=lambda _: tries.failed > len(_SHARES),
            retry=tenacity.retry_if_exception(is_transient),
            wait=wait,
            sleep=self.sleep,
            reraise=True,
        )

        def once() -> T:
            if failed:
                raise failed.pop()
            return tries.counted(act)

        return retrying(once)


class _Tries:
    """Counts the tries that failed in a row without any progress."""

    def __init__(self, progressed: Callable[[], bool]) -> None:
        self._progressed = progressed
        self.failed = 0

    def counted(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except Exception:
            self.failed = 1 if self._progressed() else self.failed + 1
            raise


def wait_before(attempt: int, budget: float, asked: float, jitter: float) -> float:
    """Seconds to wait after a failed try.

    Args:
        attempt: the try's number; 1 is the first.
        budget: seconds of all waits together.
        asked: least seconds, from `Retry-After`.
        jitter: factor for the usual wait.
    """
    return max(_SHARES[min(attempt, len(_SHARES)) - 1] * budget * jitter, asked)


def is_long_limit(error: BaseException) -> bool:
    """Whether the upstream asks for such a long wait that every further call of this run would fail as well."""
    return isinstance(error, (RateLimitError, TransferError)) and (error.retry_after or 0.0) > LONGEST_RETRY_AFTER


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed soon."""
    if isinstance(error, NetworkError):
        return True
    if isinstance(error, TransferError):
        transient = error.transient
    else:
        transient = isinstance(error, ApiError) and error.status in TRANSIENT
    return transient and (getattr(error, "retry_after", None) or 0.0) <= LONGEST_RETRY_AFTER
