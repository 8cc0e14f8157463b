"""The network of the blendshapes, an MLP mixer, as its matrices: the steps between them are the same in every mixer."""

from __future__ import annotations

import numpy as np
from tflite import Graph

BLOCKS = 4
# The landmarks that it reads, as MediaPipe's face_blendshapes_graph lists them.
LANDMARKS = [
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80, 81, 82,
    84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153, 154, 155, 157,
    158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270,
    276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332, 334,
    336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398,
    400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
]  # fmt: skip
# Its 52 outputs; the first is no expression.
NAMES = [
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel", "mouthLeft",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight",
]  # fmt: skip


def matrices(graph: Graph) -> dict[str, np.ndarray]:
    """Weights (out, in) and biases (out,) of every dense layer, and the scales of the normalisations, by name."""
    dense = []
    for op in graph.operators:
        if op.kind == "conv":
            weight = graph.constants[op.inputs[1]]
            bias = (
                graph.constants[op.inputs[2]] if len(op.inputs) > 2 and op.inputs[2] >= 0 else np.zeros(len(weight), np.float32)
            )
            dense.append((weight.reshape(len(weight), -1), bias))
    layers = ["points", "channels"]
    layers += [f"block{b}.{part}" for b in range(BLOCKS) for part in ("tokens.in", "tokens.out", "features.in", "features.out")]
    layers.append("head")
    out: dict[str, np.ndarray] = {}
    for name, (weight, bias) in zip(layers, dense, strict=True):
        out[f"{name}.weight"], out[f"{name}.bias"] = weight, bias

    after_rsqrt = {op.output for op in graph.operators if op.kind == "rsqrt"}
    scales = [graph.constants[op.inputs[1]] for op in graph.operators if op.kind == "mul" and op.inputs[0] in after_rsqrt]
    norms = [f"block{b}.{part}" for b in range(BLOCKS) for part in ("tokens", "features")]
    for name, scale in zip(norms, scales, strict=True):
        out[f"{name}.scale"] = scale.reshape(-1)
    (epsilon,) = {
        float(graph.constants[i].item()) for op in graph.operators if op.kind == "add" for i in op.inputs if is_number(graph, i)
    }
    (gain,) = [graph.constants[op.inputs[1]] for op in graph.operators if op.kind == "mul" and is_number(graph, op.inputs[1])]
    (joined,) = [op for op in graph.operators if op.kind == "concatenate"]
    out["points.weight"] = out["points.weight"] * gain.item()
    out["epsilon"] = np.array(epsilon, np.float32)
    out["token"] = graph.constants[joined.inputs[0]].reshape(-1)
    return out


def is_number(graph: Graph, tensor: int) -> bool:
    return tensor in graph.constants and graph.constants[tensor].size == 1
