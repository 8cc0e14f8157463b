"""The tflite schema as far as these networks use it: tensors, constants and operators of the one subgraph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flatbuffer import Table

# Numbers of the operators in TensorFlow Lite's schema.
OPERATORS = {
    0: "add", 1: "average_pool", 2: "concatenate", 3: "conv", 4: "depthwise_conv", 6: "dequantize", 14: "sigmoid",
    17: "max_pool", 18: "mul", 19: "relu", 22: "reshape", 23: "resize", 34: "pad", 39: "transpose", 40: "mean", 41: "sub",
    42: "div", 45: "slice", 54: "prelu", 59: "neg", 74: "sum", 75: "sqrt", 76: "rsqrt", 99: "squared_difference",
    117: "hardswish",
}  # fmt: skip
CUSTOM = 32
TYPES = {0: np.float32, 1: np.float16, 2: np.int32}
ACTIVATIONS = {0: None, 1: "relu"}


@dataclass(frozen=True)
class Operator:
    """`inputs` and `output` are tensor numbers, `options` the operator's own table, `custom` what a custom one carries."""

    kind: str
    inputs: list[int]
    output: int
    options: Table | None
    custom: bytes

    def option(self, field: int, form: str, default: int = 0) -> int:
        return default if self.options is None else self.options.number(field, form, default)


@dataclass(frozen=True)
class Graph:
    """A network with its constants as float32 or int32, N tensors in all.

    Attributes:
        shapes: of each tensor, channels last.
        constants: values by tensor number.
        inputs, outputs: tensor numbers.
    """

    shapes: list[list[int]]
    constants: dict[int, np.ndarray]
    operators: list[Operator]
    inputs: list[int]
    outputs: list[int]


def read(data: bytes) -> Graph:
    model = Table.root(data)
    kinds = []
    for code in model.tables(1):
        number = max(code.number(0, "b"), code.number(3, "i"))
        kinds.append(code.bytes(1).decode() if number == CUSTOM else OPERATORS[number])
    (subgraph,) = model.tables(2)
    buffers = model.tables(4)
    shapes, constants = [], {}
    for number, tensor in enumerate(subgraph.tables(0)):
        shape, raw = tensor.numbers(0, "i"), buffers[tensor.number(2, "I")].bytes(0)
        shapes.append(shape)
        if raw:
            constants[number] = np.frombuffer(raw, TYPES[tensor.number(1, "b")]).reshape(shape)
    operators = []
    for entry in subgraph.tables(3):
        kind, inputs = kinds[entry.number(0, "I")], entry.numbers(1, "i")
        (output,) = entry.numbers(2, "i")
        if kind == "dequantize":
            constants[output] = constants[inputs[0]].astype(np.float32)
        else:
            operators.append(Operator(kind, inputs, output, entry.table(4), entry.bytes(5)))
    return Graph(shapes, constants, operators, subgraph.numbers(1, "i"), subgraph.numbers(2, "i"))
