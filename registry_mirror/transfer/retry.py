"""When a call is tried again, and how long to wait first."""

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
"""Seconds. A longer `Retry-After` is the hourly limit: the run ends with what it has and the next one goes on."""

_SHARES = (1 / 13, 3 / 13, 9 / 13)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Four tries, the waits between them growing threefold and adding up to about `budget` seconds.

    A `Retry-After` of up to a minute takes the place of a shorter wait. `sleep` may raise to end the work.
    """

    budget: float = 20.0
    sleep: Callable[[float], None] = time.sleep

    def call(self, act: Callable[[], T], progressed: Callable[[], bool] = lambda: False) -> T:
        """Runs `act` until it succeeds, fails for good or has used up its tries; then raises its last error.

        `progressed` is asked after each failure: one that brought the work on is the first of the four again.
        """
        tries = _Tries(progressed)
        try:
            return tries.counted(act)
        except Exception as error:  # noqa: BLE001 - looked at below
            first = error
        # Only now: what counts tries and waits costs as much as a small answer, and most calls need none.
        return self._again(act, tries, first)

    def _again(self, act: Callable[[], T], tries: _Tries, first: Exception) -> T:
        """Goes on after the first failure."""
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
    """How many failed in a row without any progress."""

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
    """Seconds to wait after the failed try number `attempt` (1 is the first)."""
    return max(_SHARES[min(attempt, len(_SHARES)) - 1] * budget * jitter, asked)


def is_long_limit(error: BaseException) -> bool:
    """Whether the upstream asks for so long a wait that it would meet every further call of this run."""
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
