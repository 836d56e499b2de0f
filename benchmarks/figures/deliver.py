"""`download` of a file that is in the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import tools
from ..lines import Kind, Target
from ..roots import Root, big_root, make_root
from ..setting import DISK, MIB, OURS, Contender, against, named

if TYPE_CHECKING:
    from pathlib import Path

    from ..lines import Line
    from ..setting import Setting

CP, CP_DURABLE, SMALL = "cp", "cp, then sync of the file", "mirror, a file of 1 MiB or less"
LINKS = 200


def copy(setting: Setting) -> list[Line]:
    """In process, against `cp` as a command. Ours is on the disk before it has its name, so `cp` is to sync there, too;
    without that, which a power cut can halve, it is told and not judged.
    """
    root = big_root(setting)
    setting.need(root.size)
    contenders = [
        Contender(OURS, lambda: _ours(setting, root)),
        Contender(CP, lambda: _cp(setting, root, 'cp "$1" "$2"'), "cp"),
        Contender(CP_DURABLE, lambda: _cp(setting, root, 'cp "$1" "$2" && sync "$2"'), "cp"),
    ]
    judged, other = (CP_DURABLE, CP) if setting.place == DISK else (CP, CP_DURABLE)
    targets = {judged: Target(Kind.TIME, 1.1), other: Target(Kind.TIME)}
    return against(f"download of a cached file of {named(root.size)}", setting.alternate(contenders), targets)


def link(setting: Setting) -> list[Line]:
    """With a hard link the size must not matter: the same for a small file, by ourselves."""
    root = big_root(setting)
    with setting.scratch() as folder:
        small = make_root(folder / "small", min(MIB, root.size), max(1, setting.sizes.models // 10))
        # Between two links of some µs each, a machine with others on it tells half from whole, and no more.
        contenders = [
            Contender(OURS, lambda: _link(root, root.folder / "linked")),
            Contender(SMALL, lambda: _link(small, small.folder / "linked")),
        ]
        what = f"download of {named(root.size)} as a hard link"
        return against(what, setting.alternate(contenders, "µs"), {SMALL: Target(Kind.TIME, 1.5)})


def _ours(setting: Setting, root: Root) -> float:
    with setting.scratch() as folder:
        output = str(folder / "copy.onnx")
        return float(tools.inside("download", root=str(root.folder), name=root.name, output=output)["seconds"])


def _cp(setting: Setting, root: Root, command: str) -> float:
    with setting.scratch() as folder:
        return tools.timed(lambda: tools.run(["bash", "-c", command, "bash", root.blob, folder / "copy.onnx"]))


def _link(root: Root, output: Path) -> float:
    arguments = {"root": str(root.folder), "name": root.name, "output": str(output), "link": "hard", "times": LINKS}
    return float(tools.inside("download", **arguments)["seconds"]) * 1e6
