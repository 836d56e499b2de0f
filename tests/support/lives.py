"""Lives of a root among random changes, damage and kills, and what must hold after each of them.

    with Forge() as forge, Life("7/3", folder, forge) as life:
        life.rounds(kills=25)

A life is made from its seed alone, so that one that fails can be lived again.
"""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from registry_mirror import Mirror
from registry_mirror.catalog import Catalog
from registry_mirror.catalog.migration import HEAD, REVISIONS, migrate
from registry_mirror.errors import MirrorError
from registry_mirror.files import Modes
from registry_mirror.store.adopt import left_behind, longest_first
from registry_mirror.sync.reporter import Reporter
from registry_mirror.upkeep import pins

from .documents import many_models, weights_bytes
from .killing import CountingUpstream, Forge, Verdict, Watching, is_whole, md5_of
from .syncing import run_sync, settings_for
from .upstream import make_model
from .verifying import flip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from registry_mirror.demo import DemoModel

SIZES = (200, 5_000, 70_000, 300_000)
# How many steps an operation takes, before one has been seen to end: enough that the first kills fall into it.
STEPS = {"sync": 120, "publish": 40, "verify": 60, "gc": 80, "migrate": 60, "download": 60, "pin": 30}


class Arrivals(Reporter):
    """Remembers the models of which a byte was read; a body that is abandoned after its headers is none."""

    def __init__(self) -> None:
        self.models: set[str] = set()

    def advanced(self, key: str, done: int) -> None:
        if done:
            self.models.add(key.partition("/")[0])


@dataclass(frozen=True)
class Held:
    """One file on record, as a catalog tells it."""

    model_id: str
    md5: str
    current: bool
    pinned: bool
    evictable: bool


class Life:
    """A root and its upstream. Every choice comes from the seed."""

    def __init__(self, seed: str, folder: Path, forge: Forge) -> None:
        self.random = random.Random(seed)
        self.root, self._folder, self._forge = folder / "root", folder, forge
        self.upstream = CountingUpstream(many_models(4, size=900))
        self.kills, self.survived, self.looks = 0, 0, 0
        self._fresh = 4
        self._steps = dict(STEPS)
        self._seconds = dict.fromkeys(STEPS, 0.1)
        self._damaged: set[str] = set()
        self._log: list[str] = [f"seed {seed}"]
        self._gone: list[DemoModel] = []

    def __enter__(self) -> Self:
        self.upstream.start()
        run_sync(self.upstream, self.root)
        pins.pin(settings_for(self.upstream, self.root), self.random.sample(sorted(self._known()), 2), _no_wait)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.upstream.stop()
        if error is not None:
            error.add_note("\n".join(self._log[-12:]))

    def rounds(self, kills: int) -> None:
        """Lives until so many kills have hit something."""
        while self.kills < kills:
            self.round()

    def round(self) -> None:
        """Changes, one operation and its kill, what must hold then, and a sync that makes all well."""
        for _ in range(self.random.randrange(4)):
            self._log.append(self.random.choice(CHANGES)(self))
        if self.random.random() < 0.3:
            self._log.append(self._damage())
        operation = self.random.choice(list(STEPS))
        job = self._job(operation)
        expected = self._holdings()
        graceless = operation == "gc"
        watching = Watching(self.root, self._damaged, graceless=graceless)
        watching.start()
        self._kill(operation, job)
        watching.end()
        self.looks += watching.looks
        self._check_root()
        self._complete(expected, operation)

    # -- changes --------------------------------------------------------------------------------------------------

    def _choose(self, *statuses: str) -> DemoModel | None:
        several = [each for each in self.upstream.models if each.status in statuses]
        return self.random.choice(several) if several else None

    def _number(self) -> int:
        self._fresh += 1
        return self._fresh

    def _size(self) -> int:
        return self.random.choice(SIZES)

    def add(self) -> str:
        """A new model."""
        number = self._number()
        self.upstream.add(make_model(number, size=self._size()))
        return f"added {number}"

    def rename(self) -> str:
        """Another name."""
        chosen = self._choose("ready", "archived")
        if chosen is not None:
            self.upstream.update(chosen.id, name=f"renamed-{self._number()}")
        return f"renamed {chosen and chosen.name}"

    def retrain(self) -> str:
        """Other weights under the same id."""
        chosen = self._choose("ready")
        if chosen is not None:
            self.upstream.replace_weights(chosen.id, weights_bytes(self._number() + 10_000, self._size()))
        return f"retrained {chosen and chosen.name}"

    def restatus(self) -> str:
        """Another status, ready again included."""
        chosen = self._choose("ready", "training", "failed", "archived")
        status = self.random.choice(["ready", "ready", "training", "failed", "archived"])
        if chosen is not None and (status == "ready" or self._ready() > 3):
            self.upstream.set_status(chosen.id, status)
        return f"{chosen and chosen.name} is {status}"

    def remove(self) -> str:
        """Gone for good, or so it seems."""
        chosen = self._choose("ready", "archived", "failed")
        if chosen is not None and self._ready() > 3:
            self._gone.append(chosen)
            self.upstream.remove(chosen.id)
        return f"removed {chosen and chosen.name}"

    def bring_back(self) -> str:
        """One that was gone."""
        if self._gone:
            self.upstream.add(self._gone.pop(self.random.randrange(len(self._gone))))
        return "brought one back"

    def _ready(self) -> int:
        return sum(each.status == "ready" for each in self.upstream.models)

    def _damage(self) -> str:
        """Bytes change, or end early, or the file goes."""
        blobs = sorted(path for path in (self.root / "blobs").glob("*/*") if path.stem not in self._damaged)
        if not blobs:
            return "nothing to damage"
        blob, way = self.random.choice(blobs), self.random.choice(["flip", "cut", "remove"])
        self._damaged.add(blob.stem)
        if way == "flip":
            flip(blob)
        elif way == "cut":
            blob.chmod(0o644)
            os.truncate(blob, blob.stat().st_size // 2)
        else:
            blob.unlink()
        return f"{way} {blob.name}"

    # -- the operation --------------------------------------------------------------------------------------------

    def _job(self, operation: str) -> dict[str, Any]:
        made: dict[str, Any] = {
            "overrides": {"sync.workers": self.random.choice([1, 2, 4]), "sync.publish_every": "0s"}
        }
        if operation == "verify":
            options = {"quick": self.random.random() < 0.2, "repair": self.random.random() < 0.5}
            made["options"] = {**options, "md5": self.random.random() < 0.2}
        elif operation == "gc":
            made["overrides"] |= {"retention.superseded": "0s", "retention.grace": "0s", "retention.quarantine": "0s"}
            if self.random.random() < 0.5:
                made["overrides"] |= {"store.quota": self._used() // 2, "store.quota_high": 90, "store.quota_low": 60}
        elif operation == "download":
            self._log.append(self.add())
            made |= {"model": self.upstream.models[-1].id, "output": str(self._folder / "out.onnx")}
        elif operation == "pin":
            ids = sorted(self._known())
            made |= {"ids": self.random.sample(ids, min(2, len(ids))), "remove": self.random.random() < 0.3}
        elif operation == "publish":
            self._unpublish()
        elif operation == "migrate":
            self._age()
        return made

    def _used(self) -> int:
        return sum(path.stat().st_size for path in (self.root / "blobs").glob("*/*"))

    def _unpublish(self) -> None:
        """Leaves something to publish: rows that a killed sync recorded, or no index at all."""
        if self.random.random() < 0.3:
            (self.root / "index.sqlite").unlink(missing_ok=True)
            self._log.append("no index")
        else:
            self._log.append(self.add())
            self._run("sync, unpublished", {})

    def _age(self) -> None:
        """Makes the catalog one of an older version, as far as that one could tell what this one knows."""
        target = self.random.choice(REVISIONS[:-1]) if not self._damaged else REVISIONS[-2]
        age(self.root / "catalog.sqlite", target)
        self._log.append(f"schema {target}")

    def _kill(self, operation: str, job: dict[str, Any]) -> Verdict:
        if self.random.random() < 0.25:
            job["timer"] = max(self.random.random() * self._seconds[operation], 1e-4)
        else:
            job |= {"at": self.random.randint(1, self._steps[operation]), "after": self.random.random() < 0.5}
        verdict = self._run(operation, job)
        self._log.append(f"{operation} {job}: {verdict}")
        if verdict.killed:
            self.kills += 1
            self._steps[operation] = max(self._steps[operation], verdict.steps + 5)
        else:
            self.survived += 1
            assert verdict.code in {0, 3, 4}, verdict
            self._steps[operation] = max(verdict.steps, 5)
            self._seconds[operation] = verdict.seconds
        return verdict

    def _run(self, operation: str, job: dict[str, Any]) -> Verdict:
        given = {"root": str(self.root), "base_url": self.upstream.base_url, "key": self.upstream.api_key}
        return self._forge.run({"op": operation, **given, **job})

    # -- what must hold -------------------------------------------------------------------------------------------

    def _check_root(self) -> None:
        """What holds at the very instant of a kill."""
        index = self.root / "index.sqlite"
        if index.exists():
            with closing(sqlite3.connect(f"file:{index}?mode=ro&immutable=1", uri=True)) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                named = database.execute("SELECT md5, sha256, size FROM weights").fetchall()
            for md5, sha256, size in named:
                if md5 not in self._damaged:
                    data = (self.root / "blobs" / md5[:2] / f"{md5}.onnx").read_bytes()
                    assert (md5_of(data), hashlib.sha256(data).hexdigest(), len(data)) == (md5, sha256, size)
        for blob in (self.root / "blobs").glob("*/*"):
            assert blob.stem in self._damaged or is_whole(blob), blob
        out = self._folder / "out.onnx"
        if out.exists():
            assert any(
                md5_of(out.read_bytes()) == each.weights["onnx"].md5_hex
                for each in self.upstream.models
                if "onnx" in each.weights
            )
            out.unlink()
        with closing(sqlite3.connect(self.root / "catalog.sqlite")) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert database.execute("PRAGMA foreign_key_check").fetchall() == []

    def _complete(self, expected: set[Held], operation: str) -> None:
        """The next sync ends well, moves no more than it must, and nothing is missing after it."""
        whole = {path.stem for path in (self.root / "blobs").glob("*/*") if is_whole(path)}
        kept = {each.id: self._kept(each.id) for each in self.upstream.models}
        self.upstream.given.clear()
        arrivals = Arrivals()
        finished = run_sync(self.upstream, self.root, reporter=arrivals, accept_shrink=True)
        assert finished.exit_code == 0, (finished.record.error, finished.record.tally)
        self._check_fetched(finished.record.tally.fetched.bytes, whole, kept, arrivals.models)
        self._damaged = {md5 for md5 in self._damaged if not is_whole(self._blob(md5))}
        self._check_root()
        assert [name for name in os.listdir(self.root / "incoming") if not name.startswith("gc-")] == []
        self._check_kept(expected, operation)
        self._check_converged()
        if operation == "migrate":  # a version without pins has forgotten them
            pins.pin(
                settings_for(self.upstream, self.root), sorted({e.model_id for e in expected if e.pinned}), _no_wait
            )
        if self.random.random() < 0.15:
            again = run_sync(self.upstream, self.root).record.as_json()
            assert (again["fetched"]["bytes"], again["requests"]["storage"]) == (0, 0), again

    def _check_fetched(self, fetched: int, whole: set[str], kept: Mapping[str, int], came: set[str]) -> None:
        now = {path.stem: path.stat().st_size for path in (self.root / "blobs").glob("*/*") if is_whole(path)}
        new = {md5: size for md5, size in now.items() if md5 not in whole}
        owners = {each.weights["onnx"].md5_hex: each.id for each in self.upstream.models if "onnx" in each.weights}
        due = {owners[md5]: size - kept[owners[md5]] for md5, size in new.items()}
        assert fetched == sum(new.values()), (fetched, new)
        assert came <= due.keys(), "a body was read whose bytes were here"
        given = {model_id: count for model_id, count in self.upstream.given.items() if model_id in due}
        assert given == {model_id: size for model_id, size in due.items() if size or model_id in given}, (given, due)

    def _kept(self, model_id: str) -> int:
        """The bytes of a model's present weights that a kill left in `incoming/`."""
        weights = next(each.weights for each in self.upstream.models if each.id == model_id).get("onnx")
        several = longest_first(left_behind(self.root / "incoming", f"{model_id}/onnx"))
        if weights is None or not several or several[0].origin.md5 != weights.md5_hex:
            return 0
        return several[0].found.size

    def _check_kept(self, expected: set[Held], operation: str) -> None:
        """Nothing has left the record that retention, the quota and the damage done here did not take."""
        present = {(each.model_id, each.md5) for each in self._holdings()}
        for held in expected:
            may_go = operation == "gc" and not held.pinned and (not held.current or held.evictable)
            if held.md5 in self._damaged or may_go:
                continue
            assert (held.model_id, held.md5) in present, held
            assert is_whole(self._blob(held.md5)), held
        if operation not in {"pin", "migrate"}:
            pinned = {each.model_id for each in expected if each.pinned}
            assert pinned <= {each.model_id for each in self._holdings() if each.pinned} | self._lost_models(pinned)

    def _lost_models(self, ids: Iterable[str]) -> set[str]:
        with Catalog(self.root / "catalog.sqlite") as catalog:
            held = {each.model_id for each in catalog.retention.holdings()}
        return {model_id for model_id in ids if model_id not in held}

    def _check_converged(self) -> None:
        """What the upstream holds ready is here and current, but for what the quota took."""
        with Catalog(self.root / "catalog.sqlite") as catalog:
            evicted = {model_id for model_id, each in catalog.models.known().items() if each.evicted}
        with Mirror(self.root) as mirror:
            here = {each.id: each for each in mirror.models.iter(include_archived=True, include_gone=True)}
        for model in self.upstream.models:
            found = here[model.id]
            assert (found.name, found.status) == (model.name, model.status)
            assert found.mirror is not None
            assert found.mirror.gone_at is None
            if model.status == "ready" and model.id not in evicted:
                assert found.mirror.md5 == model.weights["onnx"].md5_hex
        upstream = {each.id for each in self.upstream.models}
        assert all(each.mirror is not None and each.mirror.gone_at for each in here.values() if each.id not in upstream)

    def _known(self) -> set[str]:
        with Catalog(self.root / "catalog.sqlite") as catalog:
            return set(catalog.models.known())

    def _holdings(self) -> set[Held]:
        path = self.root / "catalog.sqlite"
        with closing(sqlite3.connect(path)) as database:
            aged = database.execute("SELECT version_num FROM alembic_version").fetchone()[0] < HEAD
            pinned = "0" if aged else "(SELECT count(*) FROM pins p WHERE p.model_id = w.model_id)"
            rows = database.execute(
                f"SELECT w.model_id, w.md5, w.current, {pinned}, m.status = 'ready' AND m.gone_at IS NULL"  # noqa: S608
                " FROM weights w JOIN models m ON m.id = w.model_id"
            ).fetchall()
        return {Held(row[0], row[1], bool(row[2]), bool(row[3]), bool(row[4])) for row in rows}

    def _blob(self, md5: str) -> Path:
        return self.root / "blobs" / md5[:2] / f"{md5}.onnx"


CHANGES: list[Callable[[Life], str]] = [
    Life.add, Life.add, Life.rename, Life.retrain, Life.retrain, Life.restatus, Life.remove, Life.bring_back,
]  # fmt: skip


def _no_wait(_seconds: float) -> None:
    raise MirrorError("nobody else publishes here")


def age(path: Path, target: str) -> None:
    """Gives a catalog the schema of an older version, with all the rows that it has room for."""
    old = path.with_name("older.sqlite")
    migrate(old, Modes(), target=target)
    with closing(sqlite3.connect(old)) as database:
        database.execute("ATTACH ? AS newer", (str(path),))
        tables = [name for (name,) in database.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        for table in tables:
            if table != "alembic_version" and not table.startswith("sqlite_"):
                newer = {row[1] for row in database.execute(f"PRAGMA newer.table_info({table})")}
                older = [row[1] for row in database.execute(f"PRAGMA main.table_info({table})") if row[1] in newer]
                values = [_as_text(each) if target < "0006" and _is_time(each) else each for each in older]
                database.execute(
                    f"INSERT INTO main.{table} ({', '.join(older)}) SELECT {', '.join(values)} FROM newer.{table}"  # noqa: S608
                )
        database.commit()
    os.replace(old, path)


def _is_time(column: str) -> bool:
    return column.endswith("_at") or column in ("first_seen", "since")


def _as_text(column: str) -> str:
    """SQL for a time as the schemas before 0006 have it."""
    return f"strftime('%Y-%m-%dT%H:%M:%SZ', {column} / 1000000, 'unixepoch')"
