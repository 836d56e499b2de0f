"""kill -9 at every step of `mirror gc`: what the index names is there, and the next one ends as if nothing had been."""

from __future__ import annotations

import json
import subprocess
import sys

from support.documents import make_document, weights_bytes
from support.syncing import files_under, run_sync, settings_for
from test_kill import check_root

from registry_mirror.upkeep.gc.collect import collect

# Imports once and forks for each kill: a child works on a copy of the root and dies at its nth step.
SCRIPT = """
import json, os, shutil, signal, sys
from pathlib import Path
from registry_mirror.config import load_settings
from registry_mirror.upkeep.gc import collect as gc
from registry_mirror.catalog.database import Database
from registry_mirror.index import publish
from sqlalchemy import event, create_engine
import alembic, sqlite3

template, folder, base_url, overrides = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])

def dying(original, state):
    def call(*args, **kwargs):
        state["calls"] += 1
        mine = state["calls"]
        if mine == state["before"]:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if mine == state["after"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

def child(root, **at):
    state = {"calls": 0, "before": 0, "after": 0, **at}
    for name in ("rename", "replace", "unlink", "fsync"):
        setattr(os, name, dying(getattr(os, name), state))
    import pathlib
    pathlib.Path.unlink = dying(pathlib.Path.unlink, state)
    original = Database.writing
    import contextlib
    @contextlib.contextmanager
    def writing(self):
        with original(self) as connection:
            yield connection
            dying(lambda: None, state)()
        dying(lambda: None, state)()
    Database.writing = writing
    settings = load_settings(root=root, env={}, overrides=overrides).settings
    gc.collect(settings, settings.retention, lambda _: None)
    os._exit(0)

number, outcomes = 1, []
while True:
    for way in ("before", "after"):
        root = folder / f"{number}-{way}"
        shutil.copytree(template, root, copy_function=shutil.copy2)
        pid = os.fork()
        if pid == 0:
            try:
                child(root, **{way: number})
            finally:
                os._exit(70)
        _, status = os.waitpid(pid, 0)
        outcomes.append((str(root), os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)))
    if outcomes[-2][1] != signal.SIGKILL:
        break
    number += 1
print(json.dumps(outcomes))
"""


def test_a_kill_at_any_step_of_gc_loses_nothing_and_the_next_one_completes(upstream, root, tmp_path):
    overrides = {
        "upstream.base_url": upstream.base_url,
        "retention.superseded": "0s",
        "retention.quarantine": "0s",
        "retention.grace": "0s",
        "store.quota": 4 * 256,
        "store.quota_high": 90,
        "store.quota_low": 60,
    }
    run_sync(upstream, root)
    for number in (0, 1):  # one is about to be deleted, one to be let go, and one of the rest to be evicted
        upstream.replace_weights(make_document(number)["id"], weights_bytes(number + 500))
        run_sync(upstream, root)
        if number == 0:
            settings = settings_for(upstream, root, {"retention.superseded": "0s", "retention.grace": "0s"})
            assert len(collect(settings, settings.retention, lambda _: None).let_go) == 1
    (root / "quarantine" / "x.bad.host.7.ab").write_bytes(b"bad")
    overrides["store.quota"] = 3 * 256
    arguments = [str(root), str(tmp_path / "kills"), upstream.base_url, json.dumps(overrides)]
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    outcomes = json.loads(ran.stdout)
    killed = [path for path, signal in outcomes if signal == 9]
    assert {signal for _, signal in outcomes} == {9, 0}
    assert len(killed) > 30, (outcomes, ran.stderr[-3000:])
    ends = set()
    for path, _ in outcomes:
        folder = tmp_path / path
        check_root(folder)
        settings = settings_for(upstream, folder, overrides)
        for _ in range(3):
            assert collect(settings, settings.retention, lambda _: None).problems == ()
            check_root(folder)
        ends.add(tuple(files_under(folder / "blobs")))
        assert files_under(folder / "quarantine") == []
        assert files_under(folder / "incoming") == []
    assert len(ends) == 1
    assert len(ends.pop()) == 1
