"""A tflite network of convolutions as our list of nodes: channels first, paddings as numbers, activations inside nodes."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

import numpy as np
from tflite import ACTIVATIONS, Graph, Operator

Node = dict[str, Any]
ALONE = ("relu", "hardswish", "sigmoid", "prelu")


class Translation:
    """Collects nodes and constants.

    A node names what it reads and writes by the numbers of the tflite file; its constants by their place in `constants`.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.nodes = graph, []
        self.constants: list[np.ndarray] = []
        uses = Counter(i for op in graph.operators for i in op.inputs)
        self.used_once = {tensor for tensor, count in uses.items() if count == 1} - set(graph.outputs)
        self.writer: dict[int, Node] = {}

    def constant(self, values: np.ndarray) -> int:
        self.constants.append(np.ascontiguousarray(values))
        return len(self.constants) - 1

    def put(self, op: str, inputs: list[int], output: int, activation: str | None = None, **more: Any) -> None:
        node = {"op": op, "in": inputs, "out": output, "activation": activation} | more
        self.nodes.append(node)
        self.writer[output] = node

    def translate(self, op: Operator) -> None:
        if op.kind in ALONE:
            self.activate(op)
        else:
            getattr(self, op.kind.lower())(op)

    def activate(self, op: Operator) -> None:
        """An activation moves into the node before it, where nothing else reads that."""
        source = op.inputs[0]
        before = self.writer.get(source)
        more = {"slope": self.constant(self.graph.constants[op.inputs[1]].reshape(-1))} if op.kind == "prelu" else {}
        if before is not None and before["activation"] is None and source in self.used_once:
            before.update(activation=op.kind, out=op.output, **more)
            self.writer[op.output] = before
        else:
            self.put("same", [source], op.output, op.kind, **more)

    def padding(self, op: Operator, kernel: tuple[int, int], stride: tuple[int, int], same: bool) -> list[int]:
        """[left, right, top, bottom], as torch pads. "SAME" puts the odd pixel at the right and the bottom."""
        if not same:
            return [0, 0, 0, 0]
        sides: list[int] = []
        for axis in (1, 0):
            size = self.graph.shapes[op.inputs[0]][1 + axis]
            all_of_it = max((-(-size // stride[axis]) - 1) * stride[axis] + kernel[axis] - size, 0)
            sides += [all_of_it // 2, all_of_it - all_of_it // 2]
        return sides

    def convolution(self, op: Operator, weight: np.ndarray, groups: int, activation: int) -> None:
        stride = (op.option(2, "i"), op.option(1, "i"))
        pad = self.padding(op, weight.shape[2:], stride, op.option(0, "b") == 0)
        bias = self.constant(self.graph.constants[op.inputs[2]])
        shared = {"weight": self.constant(weight), "bias": bias, "stride": list(stride), "pad": pad, "groups": groups}
        self.put("conv", op.inputs[:1], op.output, ACTIVATIONS[activation], **shared)

    def conv(self, op: Operator) -> None:
        assert op.option(4, "i", 1) == op.option(5, "i", 1) == 1, "dilation"
        weight = self.graph.constants[op.inputs[1]].transpose(0, 3, 1, 2)
        self.convolution(op, weight, 1, op.option(3, "b"))

    def depthwise_conv(self, op: Operator) -> None:
        assert op.option(5, "i", 1) == op.option(6, "i", 1) == 1, "dilation"
        weight = self.graph.constants[op.inputs[1]].transpose(3, 0, 1, 2)
        self.convolution(op, weight, len(weight), op.option(4, "b"))

    def convolution2dtransposebias(self, op: Operator) -> None:
        _, stride_x, stride_y = struct.unpack("<3i", op.custom[:12])
        weight = self.graph.constants[op.inputs[1]].transpose(3, 0, 1, 2)
        assert weight.shape[2:] == (stride_y, stride_x), "patches must not overlap"
        weight_id, bias = self.constant(weight), self.constant(self.graph.constants[op.inputs[2]])
        self.put("unpool", op.inputs[:1], op.output, weight=weight_id, bias=bias)

    def max_pool(self, op: Operator) -> None:
        stride, size = (op.option(2, "i"), op.option(1, "i")), (op.option(4, "i"), op.option(3, "i"))
        assert stride == size and not any(self.padding(op, size, stride, op.option(0, "b") == 0))
        self.put("max_pool", op.inputs, op.output, size=list(size))

    def average_pool(self, op: Operator) -> None:
        assert [op.option(4, "i"), op.option(3, "i")] == self.graph.shapes[op.inputs[0]][1:3], "only over the whole picture"
        self.put("mean", op.inputs, op.output)

    def pad(self, op: Operator) -> None:
        pads = self.graph.constants[op.inputs[1]]
        assert not pads[:3].any() and pads[3, 0] == 0, "only channels behind the others"
        self.put("more_channels", op.inputs[:1], op.output, count=int(pads[3, 1]))

    def sum_or_product(self, op: Operator, name: str) -> None:
        self.put(name, op.inputs, op.output, ACTIVATIONS[op.option(0, "b")])

    def add(self, op: Operator) -> None:
        self.sum_or_product(op, "add")

    def mul(self, op: Operator) -> None:
        self.sum_or_product(op, "mul")

    def resize(self, op: Operator) -> None:
        assert not op.option(2, "b") and op.option(3, "b"), "only with half pixel centres"
        self.put("resize", op.inputs[:1], op.output, size=self.graph.constants[op.inputs[1]].tolist())

    def reshape(self, op: Operator) -> None:
        shape = self.graph.shapes[op.output]
        self.put("rows", op.inputs[:1], op.output, size=shape[-1])

    def concatenate(self, op: Operator) -> None:
        assert op.option(0, "i") == 1 and len(self.graph.shapes[op.output]) == 3
        self.put("concatenate", op.inputs, op.output)


def translate(graph: Graph, outputs: dict[str, int]) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Nodes and constants of what is needed for some outputs.

    Args:
        outputs: name of each of interest and its place among the file's outputs.
    """
    translation = Translation(graph)
    for op in graph.operators:
        translation.translate(op)
    named = {name: graph.outputs[place] for name, place in outputs.items()}
    wanted, kept = set(named.values()), []
    for node in reversed(translation.nodes):
        if node["out"] in wanted:
            wanted.update(node["in"])
            kept.append(node)
    size = graph.shapes[graph.inputs[0]][1]
    return {"input": graph.inputs[0], "size": size, "outputs": named, "nodes": kept[::-1]}, translation.constants
