"""The networks against LiteRT, which runs the original files; skipped where it or they are not there.

pip install ai-edge-litert==2.3.0
TAICHI_AVATARS_TFLITE=FOLDER pytest tests/faces     # with the four tflite files of tools/face_networks in it
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from taichi_avatars.faces.networks import load_networks

NETWORKS = load_networks()


@pytest.fixture
def original():
    """Runs an original file on one input, and returns all its outputs."""
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")
    folder = os.environ.get("TAICHI_AVATARS_TFLITE")
    if folder is None:
        pytest.skip("TAICHI_AVATARS_TFLITE names no folder with the original tflite files")

    def run(name: str, values: np.ndarray) -> list[np.ndarray]:
        interpreter = litert.Interpreter(str(Path(folder) / name), num_threads=1)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
        interpreter.invoke()
        return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]

    return run


def picture(size: int, seed: int) -> np.ndarray:
    """(1,size,size,3) in [0, 1]: smooth, with a few edges, as photographs are."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.uniform(0, 1, (1, 3, 9, 9))).float()
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    smooth[:, :, size // 3 : size // 2, size // 4 : size // 2] *= 0.4
    return smooth.permute(0, 2, 3, 1).contiguous().numpy()


def channels_first(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).permute(0, 3, 1, 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_detector(original, seed):
    values = picture(128, seed) * 2 - 1
    boxes, scores = original("face_detector.tflite", values)
    ours = NETWORKS.detector(channels_first(values))
    np.testing.assert_allclose(ours["boxes"].numpy(), boxes, atol=2e-3)  # of 128 pixels
    np.testing.assert_allclose(ours["scores"].numpy(), scores, atol=2e-3)  # logits of about -5


@pytest.mark.parametrize("seed", [0, 1])
def test_landmarks(original, seed):
    values = picture(256, seed)
    landmarks, presence, _ = original("face_landmarks_detector.tflite", values)
    ours = NETWORKS.landmarks(channels_first(values))
    np.testing.assert_allclose(ours["landmarks"].flatten().numpy(), landmarks.ravel(), atol=2e-3)  # of 256 pixels
    np.testing.assert_allclose(ours["presence"].item(), presence.item(), atol=1e-3)


def test_blendshapes(original):
    points = np.random.default_rng(0).normal(100, 30, (3, 478, 2)).astype(np.float32)
    ours = NETWORKS.blendshapes(torch.from_numpy(points)).numpy()
    read = NETWORKS.blendshapes.landmarks.numpy()
    for row in range(3):
        (strengths,) = original("face_blendshapes.tflite", points[row : row + 1, read])
        np.testing.assert_allclose(ours[row], strengths, atol=2e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_segmentation(original, seed):
    values = picture(256, seed)
    (alpha,) = original("selfie_segmentation.tflite", values)
    ours = NETWORKS.segmentation(channels_first(values))["alpha"]
    np.testing.assert_allclose(ours.permute(0, 2, 3, 1).numpy(), alpha, atol=2e-4)  # a step of 8 bits is 4e-3


def test_a_batch_gives_what_its_pictures_give():
    pictures = torch.cat([channels_first(picture(256, seed)) for seed in (2, 3)])
    for network in (NETWORKS.landmarks, NETWORKS.segmentation):
        together = network(pictures)
        for row in range(2):
            for name, values in network(pictures[row : row + 1]).items():
                torch.testing.assert_close(together[name][row : row + 1], values, atol=1e-3, rtol=1e-4)  # other summation order


def test_inputs_are_left_as_they_were():
    pictures = channels_first(picture(256, 4))
    before = pictures.clone()
    NETWORKS.landmarks(pictures)
    NETWORKS.segmentation(pictures)
    torch.testing.assert_close(pictures, before, atol=0, rtol=0)
