"""Running syncs in a test, in process or as the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from registry_mirror.config import load_settings
from registry_mirror.secret import Secret
from registry_mirror.sync.reporter import Reporter
from registry_mirror.sync.run import Finished, SyncOptions, sync
from registry_mirror.sync.stop import Stop

from . import warm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from registry_mirror.config import Settings
    from registry_mirror.demo import DemoUpstream


def settings_for(upstream: DemoUpstream, root: Path, overrides: Mapping[str, object] | None = None) -> Settings:
    """Settings that mirror `upstream` into `root`; a failing call is tried again at once."""
    given = {"upstream.base_url": upstream.base_url, "upstream.retry_budget": "0s", **(overrides or {})}
    return load_settings(root=root, env={}, overrides=given).settings


def run_sync(
    upstream: DemoUpstream,
    root: Path,
    overrides: Mapping[str, object] | None = None,
    *,
    key: str | None = None,
    stop: Stop | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> Finished:
    """One sync, in process. `options` are those of `SyncOptions`."""
    return sync(
        settings_for(upstream, root, overrides),
        Secret(key or upstream.api_key),
        SyncOptions(**options),
        reporter or Reporter(),
        stop or Stop(),
    )


def base_environment() -> dict[str, str]:
    """What any `mirror` process of a test needs of the caller's environment: the way to Python."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}


def environment(upstream: DemoUpstream, root: Path, **more: str) -> dict[str, str]:
    """The environment of a `mirror` process, with nothing of the caller's but the way to Python."""
    return {
        **base_environment(),
        "MIRROR_ROOT": str(root),
        "PICTOGRAPH_API_KEY": upstream.api_key,
        "PICTOGRAPH_BASE_URL": upstream.base_url,
        "MIRROR_UPSTREAM_RETRY_BUDGET": "0s",
        **more,
    }


def start_mirror(*args: str, env: Mapping[str, str], **popen: Any) -> subprocess.Popen[str]:
    """A `mirror` process, its output captured unless `popen` says where it goes."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "registry_mirror", *args]
    return subprocess.Popen(command, env=dict(env), text=True, **{**streams, **popen})


def mirror(*args: str, env: Mapping[str, str], **popen: Any) -> subprocess.CompletedProcess[str]:
    """Runs `mirror` to its end: in a warm process, unless its environment or `popen` asks for a fresh one."""
    if not popen and warm.fits(env):
        return warm.run(args, env)
    process = start_mirror(*args, env=env, **popen)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run_record(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The record that `--json` printed."""
    record: dict[str, Any] = json.loads(done.stdout)["run"]
    return record


def files_under(folder: Path) -> list[str]:
    """The files of a folder, relative, sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Returns as soon as the condition holds: for what another process does, which no event of ours tells.

    Raises:
        TimeoutError: it does not come to hold.
    """
    pause, until = threading.Event(), time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("the condition did not come to hold")
        pause.wait(0.01)
