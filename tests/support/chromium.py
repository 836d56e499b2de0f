"""A real headless Chromium, spoken to over a pipe: no driver and no library is needed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)
DESKTOP, PHONE = (1280, 900), (390, 844)


def find_chromium() -> str | None:
    """The program, where one is installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Chromium:
    """One browser with one tab.

    Attributes:
        complaints: what the page made it log, refused styles and scripts included, since the last visit.
        dialogs: how many times a script opened one.
    """

    def __init__(self, program: str) -> None:
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # The browser reads commands from descriptor 3 and writes answers to 4.
        script = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = [program, *FLAGS, f"--user-data-dir={self._profile}", "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", script, *command],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._messages = self._read()
        self._last = 0
        self._session: str | None = None
        self._loaded: list[str] = []
        self.complaints: list[str] = []
        self.dialogs = 0
        self._attach()

    def close(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait(20)
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self._profile, ignore_errors=True)

    def _attach(self) -> None:
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in targets if each["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def _read(self) -> Iterator[dict[str, Any]]:
        waiting = b""
        while piece := os.read(self._in, 1 << 16):
            *whole, waiting = (waiting + piece).split(b"\0")
            yield from map(json.loads, whole)
        raise AssertionError("the browser ended")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol, and its answer."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        for answer in self._messages:
            self._note(answer)
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
        raise AssertionError

    def _note(self, message: dict[str, Any]) -> None:
        what = message.get("method")
        if what == "Log.entryAdded":
            self.complaints.append(message["params"]["entry"]["text"])
        elif what == "Page.lifecycleEvent" and message["params"]["name"] == "load":
            self._loaded.append(message["params"]["loaderId"])
        elif what == "Page.javascriptDialogOpening":
            self.dialogs += 1

    def visit(self, address: str, size: tuple[int, int] = DESKTOP, *, dark: bool = False, scale: float = 1) -> None:
        """Opens a page in a window of a size; up to 500 pixels wide it is a phone. Returns when it is loaded."""
        width, height = size
        phone = width <= 500
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.complaints.clear()
        answer = self.call("Page.navigate", url=address)
        assert "errorText" not in answer, answer
        self._until(lambda: answer["loaderId"] in self._loaded)

    def _until(self, condition: Callable[[], bool]) -> None:
        # Asked first: what is waited for may have come before the answer of the call that it follows from.
        while not condition():
            self._note(next(self._messages))

    def press(self, script: str) -> None:
        """Runs a script that leaves the page, and waits for the next one."""
        before = len(self._loaded)
        self.call("Runtime.evaluate", expression=script, userGesture=True)
        self._until(lambda: len(self._loaded) > before)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self, file: Path, *, whole: bool = True) -> None:
        """The page as PNG: all of it, or what is in the window."""
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(taken["data"]))
