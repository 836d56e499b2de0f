"""docs/reliability.md speaks of tests that exist, a row for each fault."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and "::" in line
]
NAMED = [name for row in ROWS for name in re.findall(r"`([\w.]+\.py::\w+)`", row[1])]


@cache
def names_in(file: str) -> frozenset[str]:
    """The tests of a file: its functions, and what it assigns, as hypothesis' state machines are."""
    found = set()
    for node in ast.parse(next(TESTS.glob(f"*/{file}")).read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(found)


def test_every_test_that_is_named_exists():
    missing = [name for name in NAMED if name.split("::")[1] not in names_in(name.split("::")[0])]
    assert not missing


def test_there_are_sixty_faults_and_more_each_with_a_test_a_promise_and_what_was_seen():
    assert len(ROWS) >= 60
    assert all(len(row) == 4 and all(row) and "::" in row[1] for row in ROWS)
    assert len({row[0] for row in ROWS}) == len(ROWS)


def test_the_page_says_what_is_not_promised():
    assert len(re.findall(r"^- \*\*", PAGE.split("## What is not promised")[1], re.MULTILINE)) >= 5
