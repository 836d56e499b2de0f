"""The figures by name, in the order in which they are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .figures import big_file, deliver, limits, lookup, many_files, scale, serving, slow_storage, verify
from .setting import DISK, MEMORY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .lines import Line
    from .setting import Setting

BOTH = (MEMORY, DISK)


@dataclass(frozen=True, slots=True)
class Figure:
    """Something that is measured.

    Attributes:
        name: for `--only`.
        about: one line for `--list`.
        measure: gives its lines.
        places: where it is measured at all.
        judged: where its targets count; elsewhere its lines inform.
    """

    name: str
    about: str
    measure: Callable[[Setting], list[Line]]
    places: tuple[str, ...] = BOTH
    judged: tuple[str, ...] = BOTH


FIGURES = {
    figure.name: figure
    for figure in (
        Figure("limits", "the machine's own limits", limits.limits),
        Figure("big-file", "one large file, in process", big_file.in_process, judged=(MEMORY,)),
        Figure("big-file-process", "the same, `mirror sync` as a process", big_file.whole_process, judged=(MEMORY,)),
        Figure("big-file-tls", "the same over TLS", big_file.over_tls, judged=(MEMORY,)),
        Figure("big-file-durable", "the same on disk, durable", big_file.durable, places=(DISK,)),
        Figure("many-files", "many models of some MiB, cold", many_files.cold_sync, judged=(MEMORY,)),
        Figure("slow-storage", "one file from a storage that is slow per connection", slow_storage.one_large),
        Figure("slow-storage-many", "many files from it", slow_storage.many),
        Figure("unchanged", "a sync that finds nothing new", scale.unchanged),
        Figure("scale", "how syncs and publications grow with the count", scale.curves),
        Figure("lookup", "a name to a path, in process", lookup.warm),
        Figure("path", "`mirror path NAME` as a process", lookup.command),
        Figure("deliver", "`download` of a cached file", deliver.copy),
        Figure("deliver-link", "the same as a hard link", deliver.link),
        Figure("verify", "`mirror verify`, page cache warm", verify.verify),
        Figure("serve", "`mirror serve`, one large file", serving.whole),
        Figure("serve-ranges", "the same in ranges", serving.ranges),
        Figure("serve-answers", "small answers of `mirror serve`", serving.answers),
    )
}


def chosen(names: Sequence[str]) -> list[Figure]:
    """The figures of these names, all of them for none, in the order of the registry.

    Raises:
        ValueError: there is no figure of a name.
    """
    if unknown := sorted(set(names) - FIGURES.keys()):
        raise ValueError(f"no figure {', '.join(map(repr, unknown))}; there are {', '.join(FIGURES)}")
    return [figure for figure in FIGURES.values() if not names or figure.name in names]
