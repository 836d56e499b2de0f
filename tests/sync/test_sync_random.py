"""Sync against an upstream that changes and fails at random: it converges, and loses nothing that it should keep.

SYNC_EXAMPLES says how many histories are lived; the suite has few, so that it stays quick. Hypothesis prints the steps
of one that fails, and with SYNC_EXAMPLES it first shortens it, which takes minutes.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.documents import many_models, weights_bytes
from support.lives import Held
from support.syncing import run_sync, settings_for
from support.upstream import (
    CutAfter,
    Do,
    Edit,
    FaultyUpstream,
    FlipByte,
    HangUp,
    Truncate,
    error,
    html,
    make_model,
    wrong_digest,
)
from support.verifying import flip, run_verify

from registry_mirror import Mirror, NoIndexError
from registry_mirror.catalog import Catalog
from registry_mirror.upkeep.gc.collect import collect
from registry_mirror.upkeep.pins import pin

EXAMPLES = int(os.environ.get("SYNC_EXAMPLES", "8"))
MANY = "SYNC_EXAMPLES" in os.environ
SMALL_PAGES = {"upstream.page_size": 3, "sync.publish_every": "0s"}
PICK = st.integers(0, 10**6)


def rows_of(body):
    """The rows of a listing's answer, whichever envelope it has; they can be changed in place."""
    return next(body[key] for key in ("data", "models") if isinstance(body.get(key), list))


def halved(body):
    rows = rows_of(body)
    del rows[len(rows) // 2 :]
    return body


def emptied(body):
    rows_of(body).clear()
    return body


def doubled(body):
    rows = rows_of(body)
    rows[len(rows) :] = rows[:1]
    return body


def ill_typed(body):
    for row in rows_of(body)[:1]:
        row["name"], row["updated_at"] = 7, ["soon"]
    return body


LISTING = [
    error(500),
    error(502),
    html(),
    Truncate(120),
    Edit(halved),
    Edit(emptied),
    Edit(doubled),
    Edit(ill_typed),
    HangUp(),
]
WEIGHTS = [error(500), error(403), html(), CutAfter(50), FlipByte(20), wrong_digest(), HangUp()]
DOWNLOAD = [error(500), error(400, "not ready"), html(), HangUp()]


class Registry(RuleBasedStateMachine):
    """The upstream is its own model: after a run without faults the mirror must tell what it tells."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name) / "root"
        self.upstream = FaultyUpstream(many_models(4), page_cap=3)
        self.upstream.start()
        self.number = 4
        self.ever, self.pins, self.damaged = set(), set(), set()
        self.unannounced = {}  # ids whose weights changed and whose row did not: what they had before
        self.removed = []

    def teardown(self):
        """Every history ends with a run without faults, after which the mirror is right."""
        try:
            self.upstream.heal()
            self.run()
            self.nothing_is_lost()
        finally:
            self.upstream.stop()
            self.folder.cleanup()

    # -- the upstream ---------------------------------------------------------------------------------------------

    def one(self, pick, *statuses):
        several = [each for each in self.upstream.models if not statuses or each.status in statuses]
        return several[pick % len(several)] if several else None

    def fresh(self):
        self.number += 1
        return self.number

    def changed(self, model, **fields):
        self.upstream.update(model.id, **fields)
        self.unannounced.pop(model.id, None)

    @initialize(twin=st.booleans())
    def begin(self, twin):
        if twin:
            self.upstream.add(make_model(90, name="model-00000"))
        self.run()

    @rule(status=st.sampled_from(["ready", "ready", "training", "distilling"]), dated=st.booleans())
    def add(self, status, dated):
        self.upstream.add(
            make_model(self.fresh(), status=status, updated_at=None)
            if not dated
            else make_model(self.fresh(), status=status)
        )

    @rule(pick=PICK)
    def rename(self, pick):
        self.changed(self.one(pick), name=f"renamed-{self.fresh()}")

    @rule(first=PICK, second=PICK)
    def swap_names(self, first, second):
        one, other = self.one(first), self.one(second)
        self.changed(one, name=other.name)
        if one.id != other.id:
            self.changed(other, name=one.name)

    @rule(pick=PICK)
    def retrain(self, pick):
        model = self.one(pick, "ready")
        if model:
            self.upstream.replace_weights(model.id, weights_bytes(self.fresh() + 1000), metrics={"mAP": self.number})
            self.unannounced.pop(model.id, None)

    @rule(pick=PICK)
    def retrain_without_a_word(self, pick):
        model = self.one(pick, "ready")
        if model:
            stamp = {"updated_at": model.document["updated_at"]}
            self.upstream.replace_weights(model.id, weights_bytes(self.fresh() + 1000), **stamp)
            self.unannounced.setdefault(model.id, set()).add(model.weights["onnx"].md5_hex)

    @rule(pick=PICK, status=st.sampled_from(["ready", "training", "failed", "archived", "distilling"]))
    def restatus(self, pick, status):
        model = self.one(pick)
        if "onnx" not in model.weights:
            self.upstream.replace_weights(model.id, weights_bytes(self.fresh() + 1000))
        self.changed(model, status=status)

    @rule(pick=PICK)
    def change_type(self, pick):
        self.changed(self.one(pick), model_type="mind_reading")

    @precondition(lambda self: len(self.upstream.models) > 2)
    @rule(pick=PICK)
    def remove(self, pick):
        self.removed.append(self.one(pick))
        self.upstream.remove(self.removed[-1].id)

    @precondition(lambda self: self.removed)
    @rule()
    def bring_back(self):
        self.upstream.add(self.removed.pop())

    # -- the mirror -----------------------------------------------------------------------------------------------

    @rule(
        listing=st.lists(st.sampled_from(LISTING), max_size=2),
        weights=st.lists(st.sampled_from(WEIGHTS), max_size=2),
        download=st.lists(st.sampled_from(DOWNLOAD), max_size=2),
        often=st.sampled_from([1, 3, None]),
    )
    def run_among_faults(self, listing, weights, download, often):
        for kind, faults in (("list", listing), ("weights", weights), ("download", download)):
            for fault in faults:
                self.upstream.inject(fault, kind=kind, times=often)
        before = self.gone()
        code = run_sync(self.upstream, self.root, SMALL_PAGES).exit_code
        self.upstream.heal()
        assert code in {0, 1, 3, 5}, code
        called = self.gone() - before
        assert not called & {each.id for each in self.upstream.models}, "what is there was called gone"

    def gone(self):
        if not (self.root / "catalog.sqlite").exists():
            return set()
        with Catalog(self.root / "catalog.sqlite") as catalog:
            return {model_id for model_id, each in catalog.models.known().items() if each.gone}

    @rule(pick=PICK, after=st.integers(0, 2))
    def run_while_rows_shift(self, pick, after):
        """While it is listed, a new row comes to the front of the pages and another one leaves them."""

        def shift():
            self.upstream.add(make_model(self.fresh(), created_at="2027-01-01T00:00:00Z"))
            if len(self.upstream.models) > 3:
                model = self.one(pick)
                self.removed.append(model)
                self.upstream.remove(model.id)

        for _ in range(after):
            self.upstream.inject(Do(lambda: None), kind="list")
        self.upstream.inject(Do(shift), kind="list")
        code = run_sync(self.upstream, self.root, SMALL_PAGES, accept_shrink=True).exit_code
        assert code in {0, 3}, code  # one that leaves while it is fetched is a failure of its own
        self.upstream.heal()

    @rule()
    def run(self):
        finished = run_sync(self.upstream, self.root, SMALL_PAGES, accept_shrink=True)
        assert finished.exit_code == 0, finished
        self.converged()
        again = run_sync(self.upstream, self.root, SMALL_PAGES, accept_shrink=True).record.as_json()
        assert (again["fetched"]["bytes"], again["requests"]["storage"]) == (0, 0), again

    def converged(self):
        with Mirror(self.root) as mirror:
            found = {each.id: each for each in mirror.models.iter(include_archived=True, include_gone=True)}
        for model in self.upstream.models:
            here = found[model.id]
            assert (here.name, here.status, here.mirror.gone_at) == (model.name, model.status, None)
            assert here.model_type == model.document["model_type"]
            if model.status == "ready":
                right = {model.weights["onnx"].md5_hex} | self.unannounced.get(model.id, set())
                assert here.mirror.md5 in right | self.damaged
        there = {each.id for each in self.upstream.models}
        assert all(found[each].mirror.gone_at for each in found.keys() - there)

    @precondition(lambda self: self.ever)
    @rule(pick=PICK)
    def pin_one(self, pick):
        ids = sorted({held.model_id for held in self.ever})
        pin(settings_for(self.upstream, self.root), [ids[pick % len(ids)]], lambda _: None)
        self.pins.add(ids[pick % len(ids)])

    @precondition(lambda self: self.ever)
    @rule(pick=PICK)
    def damage_and_verify(self, pick):
        blobs = sorted(path for path in (self.root / "blobs").glob("*/*"))
        if blobs:
            blob = blobs[pick % len(blobs)]
            flip(blob)
            self.damaged.add(blob.stem)
            run_verify(self.root)
            assert not blob.exists()

    @precondition(lambda self: self.ever)
    @rule()
    def collect_garbage(self):
        given = settings_for(self.upstream, self.root)
        assert collect(given, given.retention, lambda _: None).problems == ()

    @invariant()
    def nothing_is_lost(self):
        """What was ever published is on record and whole, unless it was damaged here; pins stay."""
        try:
            with Mirror(self.root) as mirror:
                models = list(mirror.models.iter(include_archived=True, include_gone=True))
                pinned = {each.id for each in models if each.mirror.pinned}
                now = {Held(each.id, each.mirror.md5, True, False, False) for each in models if each.mirror.cached}
                for held in self.ever:
                    if held.md5 not in self.damaged:
                        mirror.models.path(held.model_id, md5=held.md5, verify=True)
        except NoIndexError:
            assert not self.ever
            return
        assert pinned == self.pins
        self.ever |= now


TestRegistry = Registry.TestCase
TestRegistry.pytestmark = [pytest.mark.timeout(120 + 30 * EXAMPLES)]
TestRegistry.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=20,
    deadline=None,
    derandomize=not MANY,
    phases=tuple(Phase) if MANY else (Phase.generate,),
    database=None,
    suppress_health_check=list(HealthCheck),
)
