"""A local upstream: the models API and its storage on loopback, with a few tiny real ONNX models.

    with DemoUpstream(demo_models()) as upstream:
        print(upstream.base_url, upstream.api_key)

Standard library only. It answers like the remote registry, and simulates no faults.
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
