"""`mirror demo`: shows a sync, a second sync and a lookup, with an upstream on loopback and a temporary root."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigurationError
from ..sync.reporter import Reporter
from .options import GlobalOptions, pass_globals
from .render import print_json, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..demo import DemoUpstream
    from ..mirror import Mirror
    from ..model import Model
    from ..sync.run import Finished


@click.command()
@click.option(
    "--keep",
    is_flag=True,
    help="Keep the root, to look around in it. One that --root names is kept too; it must be new or empty.",
)
@click.option("--json", "as_json", is_flag=True, help="Print both runs and the lookup as JSON.")
@pass_globals
def command(options: GlobalOptions, *, keep: bool, as_json: bool) -> int:
    """Watch the main job happen: sync, sync again, look up offline.

    Starts an upstream in a box on loopback, with a few tiny real ONNX models; nothing leaves this machine.
    """
    say = _silent if as_json else click.echo
    with _folder(options.root, keep=keep, say=say) as root:
        story = _play(root, say)
    if as_json:
        print_json(story, indent=None)
    good = story["second"]["fetched"]["bytes"] == 0 and story["second"]["requests"]["storage"] == 0
    return 0 if good and story["first"]["outcome"] == "ok" else 1


def _silent(_line: str = "") -> None:
    pass


@contextlib.contextmanager
def _folder(named: str | None, *, keep: bool, say: Callable[[str], None]) -> Iterator[Path]:
    if named is not None:
        yield _empty(Path(named))
        return
    folder = Path(tempfile.mkdtemp(prefix="mirror-demo-"))
    try:
        yield folder
    finally:
        if keep:
            say(f"\nThe root is kept: mirror --root {folder} list")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _empty(root: Path) -> Path:
    """Returns the folder if it is empty or missing, because the demo must not write into a root that is in use."""
    if os.path.lexists(root) and (not root.is_dir() or any(root.iterdir())):
        raise ConfigurationError(
            f"the demo needs a folder of its own, and {root} is not empty",
            hint="name an empty or a new folder with --root, or leave it out",
        )
    return root


def _play(root: Path, say: Callable[[str], None]) -> dict[str, Any]:
    from ..demo import DemoUpstream, demo_models
    from ..mirror import Mirror

    with DemoUpstream(demo_models()) as upstream:
        say(f"An upstream in a box is up: models API at {upstream.base_url}, storage at {upstream.storage_url}.")
        first = _sync(upstream, root, "The first sync copies the weights of every ready model.", say)
        second = _sync(upstream, root, "A second one finds nothing new, and downloads nothing.", say)
    say("\nThe upstream is shut down now. Everything from here on is read from the cache.")
    with contextlib.closing(Mirror(root)) as mirror:
        lookup = _look_up(mirror, root, say)
    return {"first": first, "second": second, "lookup": lookup}


def _sync(upstream: DemoUpstream, root: Path, title: str, say: Callable[[str], None]) -> dict[str, Any]:
    from ..config import load_settings
    from ..secret import Secret
    from ..sync.run import SyncOptions, sync
    from ..sync.stop import Stop

    say(f"\n{title}\n$ mirror sync")
    loaded = load_settings(root=root, env={}, overrides={"upstream.base_url": upstream.base_url})
    finished: Finished = sync(loaded.settings, Secret(upstream.api_key), SyncOptions(), _LinePrinter(say), Stop())
    say(f"  {finished.record.last_line()}")
    return finished.record.as_json()


def _look_up(mirror: Mirror, root: Path, say: Callable[[str], None]) -> dict[str, Any]:
    from ..model import ModelStatus
    from ..units import format_size

    say("\n$ mirror list --all")
    models = list(mirror.models.iter(include_archived=True))
    for line in table(("NAME", "STATUS", "TYPE", "WEIGHTS"), [_row(model) for model in models]):
        say(f"  {line}")
    ready = min((model for model in models if model.status == ModelStatus.READY), key=lambda each: each.name)
    path = mirror.models.path(ready.name)
    say(f"\n$ mirror path {ready.name!r}\n  {path}")
    output = mirror.models.download(ready.name, root / ".demo.onnx")
    size = output.stat().st_size
    say(f"\n$ mirror download {ready.name!r} -o model.onnx\n  {format_size(size)}, no byte over the network")
    output.unlink()
    return {"name": ready.name, "path": str(path), "size": size, "models": len(models)}


def _row(model: Model) -> tuple[str, ...]:
    from ..units import format_size

    here = format_size(model.mirror.size or 0) if model.mirror and model.mirror.cached else "none"
    return model.name, model.status, model.model_type or "-", here


class _LinePrinter(Reporter):
    """Prints the outcome for each file."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def finished(self, key: str, name: str, how: str) -> None:  # noqa: ARG002 - the reporter's signature
        self._say(f"  {name}: {how}")
