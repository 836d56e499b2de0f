"""What tests share: an upstream with three models, and a root to mirror it into."""

from __future__ import annotations

import pytest
from support.upstream import FaultyUpstream, many_models


@pytest.fixture
def upstream():
    """Three ready models with weights of their own."""
    with FaultyUpstream(many_models(3)) as running:
        yield running


@pytest.fixture
def root(tmp_path):
    """A folder that does not exist yet."""
    return tmp_path / "root"
