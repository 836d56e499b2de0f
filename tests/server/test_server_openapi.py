"""The server against its own description, by a tool that throws anything at it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.roots import Root
from support.serving import Serving, new_key

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# A write is 501, because SDKs would try again after another status that says the same.
EXPECTED = """[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501"]
"""


def test_nothing_that_it_describes_makes_a_fault(tmp_path):
    root = Root(tmp_path / "root")
    for number in range(3):
        root.add(str(number), b"weights %d" % number)
    root.publish()
    key = new_key(root.path)["X-API-Key"]
    with Serving(root.path) as server:
        (tmp_path / "schemathesis.toml").write_text(EXPECTED)
        tool, description = Path(sys.executable).with_name("schemathesis"), f"{server.url}/openapi.json"
        how = ["--phases", "coverage,fuzzing", "--mode", "all", "--max-examples", "8", "--seed", "1"]
        done = subprocess.run(
            [tool, "run", description, "--checks", CHECKS, *how, "--header", f"X-API-Key: {key}"],
            cwd=tmp_path,
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert len(server.log) > 150
        assert "Traceback" not in server.text
        assert {"200", "404", "422"} <= {word for line in server.log for word in line.split()}
