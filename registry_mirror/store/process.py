"""Whether a process can be the one whose number a file's name tells: numbers are given again. Standard library only."""

from __future__ import annotations

import os
import sys
import time


def process_lives(pid: int) -> bool:
    """Whether a process of this host runs, be it somebody else's. One that nobody has waited for yet writes no more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return _process_facts(pid)[:1] not in (["Z"], ["X"])


def process_age(pid: int) -> float | None:
    """Seconds for which a process of this host has run at most; None where the system does not tell.

    One that this account may not look at began after the boot like any other.
    """
    if sys.platform != "linux":
        return None
    facts = _process_facts(pid)
    began = int(facts[19]) / os.sysconf("SC_CLK_TCK") if len(facts) > 19 else 0.0
    # By the clock that counts from the boot, as the kernel dates processes: no wall clock that is set changes it.
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - began
    return age if age >= 0 else None


def _process_facts(pid: int) -> list[str]:
    """What Linux says of a process, from its state on: the fields of proc(5)'s `stat` after the name."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()
    except OSError:
        return []


def is_as_old(process_age: float | None, silence: float) -> bool:
    """Whether a process that runs was there when a file was last written; one that began later has the writer's number.

    Args:
        process_age: seconds; None where nothing tells, which speaks for it.
        silence: seconds since the file was written.
    """
    return process_age is None or process_age >= silence
