"""Tells systemd that the daemon is ready and alive (sd_notify(3)). Does nothing when systemd did not start it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Notifier:
    """Sends states to the socket that systemd names in the environment."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._address = env.get("NOTIFY_SOCKET")
        self._every = watchdog_interval(env, os.getpid())
        self._told = float("-inf")

    def ready(self, status: str) -> None:
        """Tells that the daemon has started."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """Sends one line for `systemctl status`."""
        self._send(f"STATUS={status}")

    def stopping(self) -> None:
        """Tells that the daemon is shutting down."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feeds the watchdog when it is due. Cheap enough to call several times a second."""
        if self._every is not None and time.monotonic() - self._told >= self._every:
            self._told = time.monotonic()
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # A leading @ means an abstract socket.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect(address)
            channel.sendall(message.encode("utf-8", "replace"))


def watchdog_interval(env: Mapping[str, str], pid: int) -> float | None:
    """Returns the seconds between two signs of life, a third of what systemd allows; None without a watchdog."""
    microseconds = env.get("WATCHDOG_USEC", "")
    if not re.fullmatch("[0-9]{1,18}", microseconds) or env.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(microseconds) / 3e6
