"""What a kill needs: a process that forks, an upstream that counts what it gives, a reader that looks all the while."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from registry_mirror.errors import NoIndexError
from registry_mirror.index.reader import IndexReader

from .upstream import FaultyUpstream

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from registry_mirror.demo import Request, Response


class CountingUpstream(FaultyUpstream):
    """Counts the bytes that the storage has given, by model."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.given: dict[str, int] = {}

    def storage(self, request: Request) -> Response:
        """The answer; its length is counted when it is a body."""
        response = super().storage(request)
        if request.method == "GET" and response.status in {200, 206}:
            model_id = next((one.id for one in self.models if one.id in request.path), request.path)
            self.given[model_id] = self.given.get(model_id, 0) + (response.content_length or 0)
        return response


@dataclass(frozen=True)
class Verdict:
    """How a child ended: `code` is None when it was killed; `steps` are those it took, `last` is the last of them."""

    killed: bool
    code: int | None
    steps: int
    last: str
    seconds: float


class Forge:
    """The process that forks."""

    def __enter__(self) -> Self:
        tests = Path(__file__).parents[1]
        env = {**os.environ, "PYTHONPATH": str(tests)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.forge"],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)

    def run(self, job: Mapping[str, Any]) -> Verdict:
        """One operation in a child."""
        self.begin(job)
        return self.end()

    def begin(self, job: Mapping[str, Any]) -> None:
        """Starts one operation."""
        assert self._process.stdin is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)

    def end(self) -> Verdict:
        """Waits for it."""
        assert self._process.stdout is not None
        return Verdict(**json.loads(self._process.stdout.readline()))


def md5_of(data: bytes) -> str:
    """In hex."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def is_whole(path: Path) -> bool:
    """Whether a blob has the bytes that its name promises."""
    try:
        return md5_of(path.read_bytes()) == path.stem
    except FileNotFoundError:
        return False


class Watching(threading.Thread):
    """A reader that looks at the index all the while, and at every file that it names.

    Args:
        excused: MD5s of what was damaged on purpose.
        graceless: files may go as soon as no index names them; a reader that meets one looks at the index again.
    """

    def __init__(self, root: Path, excused: Iterable[str], *, graceless: bool) -> None:
        super().__init__(daemon=True)
        self._root, self._excused, self._graceless = root, frozenset(excused), graceless
        self._absent = not (root / "index.sqlite").exists()
        self._ended = threading.Event()
        self._seen: set[tuple[str, int, int]] = set()
        self.looks, self.problems = 0, list[str]()

    def run(self) -> None:
        with closing(IndexReader(self._root / "index.sqlite")) as reader:
            while not self._ended.wait(0.002) and not self.problems:
                try:
                    self._look(reader)
                    self._absent = False
                except Exception as error:
                    if not (self._absent and isinstance(error, NoIndexError)):
                        self.problems.append(f"a reader met {type(error).__name__}: {error}")

    def _look(self, reader: IndexReader) -> None:
        for wrong in self._wrong(reader):
            if not self._graceless or wrong in self._wrong(reader):
                self.problems.append(f"a reader's index named {wrong}, which is not whole")
        self.looks += 1

    def _wrong(self, reader: IndexReader) -> list[str]:
        blobs = reader.read(lambda snapshot: list(snapshot.blobs()))
        paths = [(self._root / "blobs" / each.md5[:2] / f"{each.md5}.onnx", each.size) for each in blobs]
        return [path.stem for path, size in paths if path.stem not in self._excused and not self._fine(path, size)]

    def _fine(self, path: Path, size: int) -> bool:
        try:
            state = path.stat()
        except FileNotFoundError:
            return False
        key = (path.stem, state.st_ino, state.st_mtime_ns)
        if key not in self._seen and state.st_size == size and is_whole(path):
            self._seen.add(key)
        return key in self._seen

    def end(self) -> None:
        """Looks no more.

        Raises:
            AssertionError: something that it saw was not right.
        """
        self._ended.set()
        self.join()
        assert not self.problems, self.problems
