"""A system that gives no more threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def refuse_threads(
    monkeypatch: pytest.MonkeyPatch, refused: Callable[[threading.Thread], bool]
) -> list[threading.Thread]:
    """Lets no thread start for which `refused(thread)` is true; gives back the list of those that did start."""
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if refused(thread):
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    return started
