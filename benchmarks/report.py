"""Saved results as a table for people: printed, or put into docs/performance.md.

    python -m benchmarks.report build/bench/results.json
    python -m benchmarks.report build/bench/results.json --into docs/performance.md

With `--into`, the curves that were drawn beside the results are copied beside the page and shown in it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .results import results_of
from .table import as_markdown, where

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGIN, END = "<!-- results: written by benchmarks.report -->", "<!-- end of results -->"


def between(page: str, text: str) -> str:
    """The page with what stands between its two marks replaced.

    Raises:
        ValueError: a mark is not there once.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"the page needs the lines {BEGIN} and {END}, once each and in this order")
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{text.strip()}\n\n{END}{rest.partition(END)[2]}"


def pictures(results: Path, page: Path) -> str:
    """Copies the curves drawn beside the results to the page's folder; Markdown that shows them."""
    shown = []
    for drawn in sorted(results.parent.glob("scale-*.svg")):
        shutil.copyfile(drawn, page.parent / drawn.name)
        place = where(drawn.stem.removeprefix("scale-"))
        shown.append(f"![Seconds of a sync and of a publication by the count of models, {place}.]({drawn.name})")
    return "\n\n".join(shown)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints, or writes."""
    parser = argparse.ArgumentParser(prog="benchmarks.report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="what `benchmarks.run --save` wrote")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="a page with the two marks, changed in place")
    asked = parser.parse_args(argv)
    text = as_markdown(results_of(json.loads(asked.results.read_text())))
    if asked.into is None:
        print(text)
        return 0
    page = between(asked.into.read_text("utf-8"), f"{text}\n{pictures(asked.results, asked.into)}")
    asked.into.write_text(page, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
