"""Finds the models that need no work as long as the upstream sends the very same text for them.

`plan_model` would decide the same for each, after decoding its row. In a run with nothing new, decoding is most of the
work. So the catalog tells beforehand which models need nothing, and a digest of the row's bytes recognises them. A row
that differs only in key order or white space is not recognised; it is decoded, and its fingerprint shows no change.
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
    """What the catalog knows before a run.

    Attributes:
        present: the ids of all models that are not gone.
        texts: the ids of the models that need no work, by the digest of their row's text.
    """

    present: tuple[str, ...] = ()
    texts: Mapping[bytes, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeldStamps:
    """The models whose weights need not be fetched in one format while their stamp stays the same.

    Attributes:
        here: the stamp of the weights in the store, by model id.
        waived: pairs of model id and stamp whose weights the upstream lacks or that were evicted.
    """

    here: Mapping[str, str]
    waived: Collection[tuple[str, str]] = ()


def find_unchanged(
    models: Iterable[Recorded], formats: Sequence[HeldStamps], failing: Collection[str] = ()
) -> UnchangedRows:
    """Finds the models that need no work. Pure.

    Args:
        models: the models that are not gone. A gone model that is listed again has changed, whatever its text.
        formats: one entry for each wanted format.
        failing: ids of models with an open failure, which planning them may clear.
    """
    present, texts, ready = [], {}, str(ModelStatus.READY)
    for model_id, status, stamp, fingerprint, text in models:
        present.append(model_id)
        if not fingerprint or text is None or model_id in failing:
            continue
        if status == ready:
            for done in formats:  # plain loop: a call or a generator per model is slow for a hundred thousand models
                if done.here.get(model_id) != stamp and (model_id, stamp) not in done.waived:
                    break
            else:
                texts[text] = model_id
        else:
            texts[text] = model_id
    return UnchangedRows(tuple(present), texts)


def stamps_here(held: Iterable[Held], weights_format: str, blobs: Mapping[str, int]) -> dict[str, str]:
    """Returns the stamps of weights whose blobs are in the store with the recorded size, by model id.

    Args:
        blobs: as in `plan_model`.
    """
    ending = suffix(weights_format)
    return {model_id: stamp for model_id, md5, size, stamp in held if blobs.get(f"{md5[:2]}/{md5}{ending}") == size}


def load_unchanged(catalog: Catalog, formats: Sequence[str], blobs: Mapping[str, int]) -> UnchangedRows:
    """Reads the catalog and finds the models that need no work."""
    done = [
        HeldStamps(stamps_here(catalog.weights.held(each), each, blobs), catalog.weights.waived(each))
        for each in formats
    ]
    return find_unchanged(catalog.models.recorded(), done, catalog.weights.failing())
