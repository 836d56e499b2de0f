"""Which models need no look: nothing is done about them as long as the upstream sends the very same text. Pure.

`plan_model` would say so of each, once its row was decoded. In a run with nothing new that is all that a run does, so
it is found out beforehand from what the catalog has, and rows are recognised by a digest of their bytes. A row that
differs in key order or white space alone is not recognised; it goes the long way, and its fingerprint tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..model import ModelStatus
from ..store.layout import suffix

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ..catalog import Catalog, Held, Recorded


@dataclass(frozen=True, slots=True)
class UnchangedRows:
    """What is known before a run.

    Attributes:
        present: the ids of all models that are not gone.
        texts: the ids of those that need no look, by the digest of their text.
    """

    present: tuple[str, ...] = ()
    texts: Mapping[bytes, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeldStamps:
    """Of which models nothing is to be fetched in one format, and while they have which stamp.

    Attributes:
        here: weights in the store: stamps by model.
        waived: model and stamp where they are not to be had, or made room for others.
    """

    here: Mapping[str, str]
    waived: Collection[tuple[str, str]] = ()


def find_unchanged(
    models: Iterable[Recorded], formats: Sequence[HeldStamps], failing: Collection[str] = ()
) -> UnchangedRows:
    """Finds out which models need no look.

    Args:
        models: those that are not gone; one that is, is news when it is listed again, whatever its text.
        formats: one for each format that is wanted.
        failing: models with an open failure, which a look may end.
    """
    present, texts, ready = [], {}, str(ModelStatus.READY)
    for model_id, status, stamp, fingerprint, text in models:
        present.append(model_id)
        if not fingerprint or text is None or model_id in failing:
            continue
        if status == ready:
            for done in formats:  # no call and no generator for each of a hundred thousand models
                if done.here.get(model_id) != stamp and (model_id, stamp) not in done.waived:
                    break
            else:
                texts[text] = model_id
        else:
            texts[text] = model_id
    return UnchangedRows(tuple(present), texts)


def stamps_here(held: Iterable[Held], weights_format: str, blobs: Mapping[str, int]) -> dict[str, str]:
    """The stamps of the weights whose blobs are in the store with their sizes, by model; `blobs` as for a plan."""
    ending = suffix(weights_format)
    return {model_id: stamp for model_id, md5, size, stamp in held if blobs.get(f"{md5[:2]}/{md5}{ending}") == size}


def load_unchanged(catalog: Catalog, formats: Sequence[str], blobs: Mapping[str, int]) -> UnchangedRows:
    """Asks the catalog."""
    done = [
        HeldStamps(stamps_here(catalog.weights.held(each), each, blobs), catalog.weights.waived(each))
        for each in formats
    ]
    return find_unchanged(catalog.models.recorded(), done, catalog.weights.failing())
