"""Writes the demo's three ONNX models. Run it again and the files stay the same, byte for byte.

    python tests/tools/build_demo_models.py

The weights are random and untrained, so the answers mean nothing; but they are computed, differ from image to image,
and have the names and shapes that the platform's exports have, so its SDK and onnxruntime take them for real ones.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS = Path(__file__).parents[2] / "registry_mirror" / "demo" / "models"
SIDE = 64
# Of ONNX 1.8 and 1.10: an onnxruntime of years ago reads these files as well.
OPSET, IR_VERSION = 13, 8


class Graph:
    """Nodes and weights in the order in which they are added; each call returns its output's name."""

    def __init__(self, seed: int) -> None:
        # Python's generator is the same on every platform and version; numpy's floats are not promised to be.
        self._random = random.Random(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def constant(self, name: str, values: np.ndarray) -> str:
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def random(self, name: str, *shape: int, spread: float) -> str:
        values = [self._random.uniform(-spread, spread) for _ in range(int(np.prod(shape)))]
        return self.constant(name, np.array(values, np.float32).reshape(shape))

    def node(self, kind: str, *inputs: str, output: str, **attributes: object) -> str:
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=f"{kind}_{output}", **attributes))
        return output

    def conv(self, x: str, name: str, channels: tuple[int, int], *, stride: int = 2, spread: float = 0.4) -> str:
        weight = self.random(f"{name}.weight", channels[1], channels[0], 3, 3, spread=spread)
        bias = self.random(f"{name}.bias", channels[1], spread=0.1)
        strides = [stride, stride]
        return self.node("Conv", x, weight, bias, output=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=strides)

    def block(self, x: str, name: str, channels: tuple[int, int], *, stride: int = 2, spread: float = 0.4) -> str:
        return self.node("Relu", self.conv(x, f"{name}.conv", channels, stride=stride, spread=spread), output=name)

    def model(self, name: str, image: str, output: str, shape: list[int]) -> bytes:
        inputs = [helper.make_tensor_value_info(image, TensorProto.FLOAT, [1, 3, SIDE, SIDE])]
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
        graph = helper.make_graph(self._nodes, name, inputs, outputs, self._weights)
        model = helper.make_model(
            graph, producer_name="registry-mirror", opset_imports=[helper.make_opsetid("", OPSET)]
        )
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)


def classifier() -> bytes:
    """Image as torchvision normalises it -> three logits."""
    graph = Graph(seed=3)
    x = graph.block("input", "stem", (3, 8))
    x = graph.block(x, "layer1", (8, 16))
    x = graph.block(x, "layer2", (16, 16))
    x = graph.node("Flatten", graph.node("GlobalAveragePool", x, output="pool"), output="features")
    weight, bias = graph.random("head.weight", 16, 3, spread=1.5), graph.random("head.bias", 3, spread=0.1)
    graph.node("Gemm", x, weight, bias, output="logits")
    return graph.model("box-condition", "input", "logits", [1, 3])


def detector() -> bytes:
    """Pixels from 0 to 255 -> YOLOX's grid over strides 8, 16 and 32: x, y, log w, log h, objectness, two classes."""
    graph = Graph(seed=5)
    scale = graph.constant("scale", np.array(1 / 256, np.float32))
    x = graph.node("Mul", "images", scale, output="scaled")
    x = graph.block(x, "stem", (3, 8))
    x = graph.block(x, "stage1", (8, 12))
    heads = []
    for stride in (8, 16, 32):
        x = graph.block(x, f"stage{stride}", (12, 12))
        heads.append(_head(graph, x, stride))
    graph.node("Concat", *heads, output="output", axis=1)
    cells = sum((SIDE // stride) ** 2 for stride in (8, 16, 32))
    return graph.model("forklift-finder", "images", "output", [1, cells, 7])


def _head(graph: Graph, x: str, stride: int) -> str:
    name = f"head{stride}"
    boxes = graph.conv(x, f"{name}.box", (12, 4), stride=1, spread=0.1)
    scores = graph.conv(x, f"{name}.score", (12, 3), stride=1, spread=0.3)
    scores = graph.node("Sigmoid", scores, output=f"{name}.sigmoid")
    x = graph.node("Concat", boxes, scores, output=f"{name}.joined", axis=1)
    flat = graph.constant(f"{name}.shape", np.array([1, 7, (SIDE // stride) ** 2], np.int64))
    x = graph.node("Reshape", x, flat, output=f"{name}.flat")
    return graph.node("Transpose", x, output=name, perm=[0, 2, 1])


def segmenter() -> bytes:
    """Image as torchvision normalises it -> the probability of "pallet" for every pixel."""
    graph = Graph(seed=7)
    skip = graph.block("input", "down1", (3, 8), stride=1)
    x = graph.block(skip, "down2", (8, 16))
    sizes = graph.constant("up.scales", np.array([1, 1, 2, 2], np.float32))
    x = graph.node("Resize", x, "", sizes, output="up", mode="nearest")
    x = graph.node("Concat", x, skip, output="joined", axis=1)
    x = graph.conv(x, "head", (24, 1), stride=1, spread=0.4)
    graph.node("Sigmoid", x, output="masks")
    return graph.model("pallet-outline", "input", "masks", [1, 1, SIDE, SIDE])


BUILDERS: dict[str, Callable[[], bytes]] = {
    "box-condition.onnx": classifier,
    "forklift-finder.onnx": detector,
    "pallet-outline.onnx": segmenter,
}


def main() -> None:
    """Writes all of them into the package."""
    for filename, build in BUILDERS.items():
        data = build()
        (MODELS / filename).write_bytes(data)
        sys.stdout.write(f"{filename}: {len(data)} bytes\n")


if __name__ == "__main__":
    main()
