"""Makes standard input, output and error reliable for a command. Imports only what Python has loaded at its start.

A service manager may start a command with any of the three closed, and the reader of a pipe may exit at any moment.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


class Output(io.FileIO):
    """Standard output. When its reader has gone, further output is dropped without an error.

    Any other failure raises an OSError whose `filename` is "standard output".
    """

    gone = False

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        """Writes some of `data` and returns how many bytes; drops all of it when the reader has gone."""
        if self.gone:
            return len(data)
        try:
            while (written := super().write(data)) is None:
                self._wait()
        except BrokenPipeError:
            self.gone = True
            return len(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from None
        return written

    def _wait(self) -> None:
        """Waits until the stream takes more: the parent process may have made it non-blocking, so it can be full."""
        import select

        ready = select.poll()
        ready.register(self, select.POLLOUT)
        ready.poll()


class Messages(io.FileIO):
    """Standard error. Output that cannot be written is dropped, because a full log disk must not stop the work."""

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        """Writes some of `data` and returns how many bytes; drops all of it on any error."""
        try:
            return super().write(data) or len(data)  # None means that a non-blocking stream is full
        except OSError:
            return len(data)


def secure_streams() -> None:
    """Gives each of the three streams a descriptor and an object, before anything else is opened.

    Otherwise the first opened file, such as a catalog, would get the number of a closed stream, and output to that
    stream would be written into the file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            # Without this, a child process would find the stream closed and have the same problem.
            os.set_inheritable(number, True)  # noqa: FBT003 - the function takes no keyword
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - stays open as long as the process
    sys.stdout = _text(Output(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(Messages(2, "w", closefd=False), sys.stderr)


def reader_gone() -> bool:
    """Returns whether the reader of standard output has gone, so that a long output may stop."""
    raw = _raw_output()
    return raw is not None and raw.gone


def forget_output() -> None:
    """Drops buffered output that standard output has refused. Otherwise Python would fail on it again at exit."""
    if (raw := _raw_output()) is not None:
        raw.gone = True


def _raw_output() -> Output | None:
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw if isinstance(raw, Output) else None


def _text(raw: io.FileIO, present: TextIO | None) -> io.TextIOWrapper:
    """Returns a text stream on `raw` with the present stream's encoding. Characters it cannot encode are escaped."""
    encoding, errors = getattr(present, "encoding", "utf-8"), getattr(present, "errors", None)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace" if errors in (None, "strict") else errors,
        line_buffering=getattr(present, "line_buffering", True),
    )
