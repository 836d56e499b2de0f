"""nginx as a child of the benchmark: the upstream's storage and API, and the peer of `mirror serve`."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from typing import TYPE_CHECKING
from urllib.request import urlopen

from . import tools
from .lines import NotMeasuredError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Started by root, workers would change to another account, which may not read the folder.
_CONFIG = """
{user}worker_processes {workers}; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type application/octet-stream;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
{servers}
}}
"""
PATIENCE = 30.0
"""Seconds until a server has to answer."""


@contextlib.contextmanager
def nginx(folder: Path, servers: str, port: int) -> Iterator[None]:
    """nginx with these `server` blocks, from the moment that something listens on `port`.

    Raises:
        NotMeasuredError: it is not installed, or does not start.
    """
    tools.require("nginx")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    user = "user root; " if os.geteuid() == 0 else ""
    config.write_text(_CONFIG.format(user=user, workers=os.cpu_count(), folder=folder, servers=servers))
    process = subprocess.Popen(["nginx", "-c", str(config), "-e", str(folder / "error.log")])
    try:
        wait_for_port(process, port, folder / "error.log")
        yield
    finally:
        process.terminate()
        process.wait()


def wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path | None = None) -> None:
    """Returns once a server that was just started takes connections.

    Raises:
        NotMeasuredError: it does not, or has ended; with the last line of its log.
    """
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    said = log.read_text().splitlines()[-1:] if log is not None and log.exists() else []
    raise NotMeasuredError(f"a server did not start: {' '.join(said)}")


def wait_for(url: str) -> None:
    """Returns once a URL answers with success.

    Raises:
        NotMeasuredError: it does not.
    """
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError), urlopen(url):
            return
        time.sleep(0.05)
    raise NotMeasuredError(f"{url} never answered")


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
