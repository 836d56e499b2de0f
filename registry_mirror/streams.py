"""Standard input, output and error as a command may rely on them. Imports nothing that is not there at the start.

A service manager may start a command with any of the three closed, and whoever reads them may go away at any moment.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


class Output(io.FileIO):
    """Standard output. That its reader has gone is no failure: what it would have got is dropped.

    Any other refusal is an OSError whose `filename` says what could not be written.
    """

    gone = False

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        """Writes some of `data`, all of it where nobody reads any more."""
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
        """Until it takes more: one that whoever started us set to be non-blocking is full for a moment."""
        import select

        ready = select.poll()
        ready.register(self, select.POLLOUT)
        ready.poll()


class Messages(io.FileIO):
    """Standard error: what it does not take is lost. A full log disk is no reason to stop the work."""

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        """Writes some of `data`, or drops it."""
        try:
            return super().write(data) or len(data)  # None: the other end takes nothing now
        except OSError:
            return len(data)


def secure_streams() -> None:
    """Gives the three streams a descriptor and an object each, before anything else is opened.

    Otherwise the first file that is opened, a catalog for instance, gets the number of a stream that was closed, and
    what is said there is written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
            # A command that is started would find it closed, and trip over the same.
            os.set_inheritable(number, True)  # noqa: FBT003 - it takes no names
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process
    sys.stdout = _text(Output(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(Messages(2, "w", closefd=False), sys.stderr)


def reader_gone() -> bool:
    """Whether nobody reads standard output any more, so that a long answer may end."""
    raw = _raw_output()
    return raw is not None and raw.gone


def forget_output() -> None:
    """Drops what standard output has refused and still holds; it would be tried again, and fail, at the exit."""
    if (raw := _raw_output()) is not None:
        raw.gone = True


def _raw_output() -> Output | None:
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw if isinstance(raw, Output) else None


def _text(raw: io.FileIO, present: TextIO | None) -> io.TextIOWrapper:
    """A stream of text on `raw`, in the encoding of the present one. A name that it cannot carry is escaped."""
    encoding, errors = getattr(present, "encoding", "utf-8"), getattr(present, "errors", None)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace" if errors in (None, "strict") else errors,
        line_buffering=getattr(present, "line_buffering", True),
    )
