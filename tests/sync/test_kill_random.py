"""Kills at random instants of everything that writes; after each, what docs/reliability.md promises holds.

`make test-kill` does 3,000 of them. KILLS says how many, KILL_SEED is the seed; the name of a failed test holds both
that and the life, and KILL_LIFE=7/3 lives that one alone. It is the same choices again; threads may take another turn.
"""

from __future__ import annotations

import os

import pytest
from support.killing import Forge
from support.lives import Life

KILLS = int(os.environ.get("KILLS", "100"))
SEED = os.environ.get("KILL_SEED", "1")
EACH = 25
LIVES = [os.environ["KILL_LIFE"]] if "KILL_LIFE" in os.environ else [f"{SEED}/{n}" for n in range(-(-KILLS // EACH))]


@pytest.fixture(scope="module")
def forge():
    with Forge() as running:
        yield running


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", LIVES)
def test_a_root_outlives_kills_at_random_instants(tmp_path, forge, seed, record_property):
    with Life(seed, tmp_path, forge) as life:
        life.rounds(kills=EACH)
    record_property("kills", life.kills)
    print(f"life {seed}: {life.kills} kills, {life.survived} runs outlived theirs, {life.looks} looks of a reader")
    assert life.looks > life.kills
