"""One large file, from an upstream on loopback to a checked file, by each means that a user has."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import tools
from ..library import sync_record
from ..lines import Kind, NotMeasuredError, Target
from ..setting import OURS, Contender, against, named
from ..upstream import Blob, Entry, Upstream, document, model_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ..lines import Line
    from ..setting import Setting

CURL, ARIA2, SDK, RCLONE = "curl | tee | md5sum", "aria2c -x8 --checksum", "official SDK", "rclone copyurl"
PEERS = (CURL, ARIA2, SDK)


@dataclass(frozen=True)
class OneFile:
    """An upstream with one model, and its file. `ca_file` is set when storage speaks TLS."""

    upstream: Upstream
    blob: Blob
    ca_file: Path | None = None

    @property
    def url(self) -> str:
        """A ready address."""
        return self.upstream.url_of(self.blob)


def in_process(setting: Setting) -> list[Line]:
    """Ours and the SDK's inside a running interpreter, the others as the commands that they are."""
    file = plain(setting)
    contenders = [
        Contender(OURS, lambda: fetch(setting, file)),
        *commands(setting, file),
        Contender(SDK, lambda: sdk_download(setting, file), str(tools.PEERS_PYTHON)),
        Contender(RCLONE, lambda: rclone(setting, file), "rclone"),
    ]
    targets = {**dict.fromkeys(PEERS, Target(Kind.SPEED, 1.25)), RCLONE: Target(Kind.SPEED)}
    return against(f"{named(file.blob.size)}, in process", setting.alternate(contenders), targets)


def whole_process(setting: Setting) -> list[Line]:
    """`mirror sync` and the others, each from the start of its process to the end."""
    file = plain(setting)
    contenders = [
        Contender(OURS, lambda: sync(setting, file)),
        *commands(setting, file),
        Contender(SDK, lambda: _sdk_process(setting, file), str(tools.PEERS_PYTHON)),
    ]
    targets = dict.fromkeys(PEERS, Target(Kind.SPEED, 1.1))
    return against(f"{named(file.blob.size)}, mirror sync", setting.alternate(contenders), targets)


def over_tls(setting: Setting) -> list[Line]:
    """Storage over TLS, with a certificate of a private authority."""
    with _tls_file(setting) as file:
        contenders = [
            Contender(OURS, lambda: fetch(setting, file)),
            Contender(SDK, lambda: sdk_download(setting, file), str(tools.PEERS_PYTHON)),
        ]
        targets = {SDK: Target(Kind.SPEED, 1.25)}
        return against(f"{named(file.blob.size)} over TLS, in process", setting.alternate(contenders), targets)


def durable(setting: Setting) -> list[Line]:
    """On a disk, until the bytes are there for good: ours does that of its own accord, the others with `sync FILE`."""
    file = plain(setting)
    contenders = [
        Contender(OURS, lambda: fetch(setting, file)),
        *commands(setting, file, durable=True),
        Contender(SDK, lambda: sdk_download(setting, file, durable=True), str(tools.PEERS_PYTHON)),
    ]
    # Within 5 % of the fastest is within 5 % of each.
    targets = dict.fromkeys(PEERS, Target(Kind.TIME, 1.05))
    return against(f"{named(file.blob.size)}, durable", setting.alternate(contenders), targets)


def plain(setting: Setting) -> OneFile:
    """The large file over plain HTTP; shared by figures."""
    return setting.shared("big", lambda: one_file(setting, setting.sizes.big))


@contextlib.contextmanager
def one_file(setting: Setting, size: int, rate: int | None = None) -> Iterator[OneFile]:
    """An upstream with one file, served; removed afterwards."""
    setting.need(3 * size)
    with setting.scratch() as folder:
        upstream = Upstream(folder / "upstream", rate=rate)
        with _serving(upstream, size) as file:
            yield file


@contextlib.contextmanager
def _tls_file(setting: Setting) -> Iterator[OneFile]:
    import trustme

    setting.need(3 * setting.sizes.big)
    with setting.scratch() as folder:
        authority = trustme.CA()
        ca_file, certificate = folder / "ca.pem", folder / "server.pem"
        authority.cert_pem.write_to_path(str(ca_file))
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        upstream = Upstream(folder / "upstream", certificate=certificate)
        with _serving(upstream, setting.sizes.big, ca_file) as file:
            yield file


@contextlib.contextmanager
def _serving(upstream: Upstream, size: int, ca_file: Path | None = None) -> Iterator[OneFile]:
    blob = upstream.add(0, size)
    upstream.list(1, lambda number: Entry(document(number), blob))
    with upstream.running():
        yield OneFile(upstream, blob, ca_file)


def fetch(setting: Setting, file: OneFile) -> float:
    """Fetched, hashed both ways, checked, published durably, in process."""
    with setting.scratch() as folder:
        ca_file = None if file.ca_file is None else str(file.ca_file)
        said = tools.inside("fetch", base_url=file.upstream.base_url, root=str(folder / "root"), ca_file=ca_file)
    if said["size"] != file.blob.size or not said["published"]:
        raise NotMeasuredError(f"the file was not fetched whole: {said}")
    return float(said["seconds"])


def sync(setting: Setting, file: OneFile) -> float:
    """A first `mirror sync`, as a whole process."""
    with setting.scratch() as folder:
        env = tools.mirror_environment(file.upstream.base_url, folder / "root")
        record: list[dict[str, dict[str, int]]] = []
        seconds = tools.timed(lambda: record.append(sync_record(env)))
    if record[0]["fetched"] != {"files": 1, "bytes": file.blob.size}:
        raise NotMeasuredError(f"the file was not fetched: {record[0]['fetched']}")
    return seconds


def commands(setting: Setting, file: OneFile, *, durable: bool = False) -> list[Contender]:
    """What a user would type into a shell."""
    return [
        Contender(CURL, lambda: _curl(setting, file, durable=durable), "curl"),
        Contender(ARIA2, lambda: _aria2(setting, file, durable=durable), "aria2c"),
    ]


def _curl(setting: Setting, file: OneFile, *, durable: bool) -> float:
    pipe = 'set -o pipefail; curl -sS --fail "$1" | tee "$2" | md5sum'

    def work(output: Path) -> None:
        said = tools.run(["bash", "-c", f'{pipe}; sync "$2"' if durable else pipe, "bash", file.url, output])
        if not said.startswith(file.blob.md5):
            raise NotMeasuredError(f"curl brought other bytes: {said.strip()}")

    return _into_file(setting, work)


def _aria2(setting: Setting, file: OneFile, *, durable: bool) -> float:
    # Eight connections take -s8 as well; without preallocation it is faster here.
    options = "-q -x8 -s8 --file-allocation=none --allow-overwrite=true"
    download = f'aria2c {options} --checksum="md5=$3" -d "${{2%/*}}" -o "${{2##*/}}" "$1"'
    command = f'{download} && sync "$2"' if durable else download

    def work(output: Path) -> None:
        tools.run(["bash", "-c", command, "bash", file.url, output, file.blob.md5])

    return _into_file(setting, work)


def rclone(setting: Setting, file: OneFile) -> float:
    """One connection, no digest."""
    return _into_file(setting, lambda output: tools.run(["rclone", "copyurl", file.url, output]))


def sdk_download(setting: Setting, file: OneFile, *, durable: bool = False) -> float:
    """The SDK's own `download`, in process; it checks nothing."""
    with setting.scratch() as folder:
        output = str(folder / "weights.onnx")
        said = tools.theirs("download", sdk_env(file, folder), model=model_id(0), output=output, durable=durable)
    if said["size"] != file.blob.size:
        raise NotMeasuredError(f"the SDK brought {said['size']} bytes")
    return float(said["seconds"])


def _sdk_process(setting: Setting, file: OneFile) -> float:
    def work(output: Path) -> None:
        tools.theirs("download", sdk_env(file, output.parent), model=model_id(0), output=str(output))

    return _into_file(setting, work)


def sdk_env(file: OneFile, home: Path) -> dict[str, str]:
    """The SDK's settings, and a home of its own so that nobody's profile counts."""
    trusted = {} if file.ca_file is None else {"SSL_CERT_FILE": str(file.ca_file)}
    base_url = file.upstream.base_url
    return {**tools.mirror_environment(base_url, home), "HOME": str(home), **trusted}


def _into_file(setting: Setting, work: Callable[[Path], object]) -> float:
    with setting.scratch() as folder:
        return tools.timed(lambda: work(folder / "weights.onnx"))
