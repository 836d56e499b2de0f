"""An upstream in a box: the models API and its storage on loopback, with a few tiny real ONNX models behind them.


    with DemoUpstream(demo_models()) as upstream:
        print(upstream.base_url, upstream.api_key)

Standard library only. It answers what the remote registry answers and has no faults of its own.
"""

from __future__ import annotations

from .library import ORGANIZATION_ID, DemoModel, demo_models
from .messages import Request, RequestLog, Response
from .upstream import DemoUpstream
from .weights import DemoWeights, SyntheticBytes

__all__ = [
    "ORGANIZATION_ID",
    "DemoModel",
    "DemoUpstream",
    "DemoWeights",
    "Request",
    "RequestLog",
    "Response",
    "SyntheticBytes",
    "demo_models",
]
