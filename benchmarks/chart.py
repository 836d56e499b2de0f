"""The scale curves as a picture, from saved results. Runs in the peers' environment, which has matplotlib.

.envs/bench/bin/python -m benchmarks.chart build/bench/results.json build/bench
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Curve = list[tuple[int, float]]

FIGURE = "scale"
PUBLISH_NONE = "publish after none"


def curves(lines: Sequence[Mapping[str, Any]], place: str) -> dict[str, Curve]:
    """The points of each curve in one place: count of models and median seconds."""
    found: dict[str, Curve] = {}
    for line in lines:
        ours = (line["figure"], line["place"]) == (FIGURE, place) and line["models"] is not None
        if ours and line["what"] != PUBLISH_NONE:
            what = "publish" if line["what"].startswith("publish") else f"sync, {line['what']}"
            found.setdefault(what, []).append((line["models"], line["ours"]["median"]))
    return found


def exponents(lines: Sequence[Mapping[str, Any]], place: str) -> dict[str, float]:
    """The exponent over all counts of each curve that has one."""
    end = ": exponent, all counts"
    return {
        f"sync, {line['what'].removesuffix(end)}": line["ours"]["median"]
        for line in lines
        if line["place"] == place and line["what"].endswith(end)
    }


def draw(read: Mapping[str, Any], folder: Path) -> list[Path]:
    """`scale-PLACE.png` and `.svg` for each place that has curves."""
    import matplotlib as mpl  # type: ignore[import-not-found]

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "registry-mirror"  # the same results give the same file
    drawn: list[Path] = []
    for place in dict.fromkeys(line["place"] for line in read["lines"]):
        found = curves(read["lines"], place)
        if found:
            drawn += _draw_one(found, exponents(read["lines"], place), folder / f"scale-{place}")
    return drawn


def _draw_one(found: Mapping[str, Curve], fitted: Mapping[str, float], output: Path) -> list[Path]:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    for what, curve in found.items():
        exponent = f" (exponent {fitted[what]:.2f})" if what in fitted else ""
        axes.loglog([count for count, _ in curve], [seconds for _, seconds in curve], marker="o", label=what + exponent)
    axes.set_xlabel("models")
    axes.set_ylabel("seconds")
    axes.grid(visible=True, which="major", alpha=0.4)
    axes.legend(frameon=False)
    files = [output.with_suffix(suffix) for suffix in (".png", ".svg")]
    for file in files:
        figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    plt.close(figure)
    return files


def main(argv: Sequence[str]) -> int:
    """Draws; says which files it wrote. No curve in the results is no error."""
    results, folder = Path(argv[0]), Path(argv[1])
    for file in draw(json.loads(results.read_text()), folder):
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
