"""An upstream in a box: the models API and its storage on loopback, with a few tiny real ONNX models behind them.

    from registry_mirror.demo import DemoUpstream, demo_models

    with DemoUpstream(demo_models()) as upstream:
        print(upstream.base_url, upstream.api_key)

Standard library only. It answers what the remote registry answers and has no faults of its own.
"""

from __future__ import annotations

from .catalog import ORGANIZATION_ID, DemoModel, demo_models
from .messages import Request, RequestLog, Response
from .upstream import DemoUpstream
from .weights import SyntheticBytes, Weights

__all__ = [
    "ORGANIZATION_ID",
    "DemoModel",
    "DemoUpstream",
    "Request",
    "RequestLog",
    "Response",
    "SyntheticBytes",
    "Weights",
    "demo_models",
]
