"""One camera and a tracker that is 2 degrees and 1.5 mm off: what training, refining and training again make of it.

    python benchmarks/training/one_camera.py [--seeds 0 1 2] [--capture SELFIE] [--steps 1200] [--out FILE.json]

The selfie of `synth --selfie` at a width of 270 pixels: a head that turns to both sides, 240 frames for training, and the last
60, another text, held out. Its true parameters are made wrong as `synth` makes those of a capture, but further. PSNR is that
of the held-out frames, with the parameters that stand beside it. Vertex errors: see `tracking.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tracking import WHITE, errors

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.config import TrainConfig
from taichi_avatars.evaluation.scores import evaluate
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.capture import Capture, load_capture
from taichi_avatars.scene.views import View
from taichi_avatars.synthetic.capture import TRACKING_ERROR, with_tracking_error
from taichi_avatars.synthetic.folder import TRUTH
from taichi_avatars.tracking.refine import LANDMARK_ERRORS, State, refine
from taichi_avatars.training.trainer import train
from taichi_avatars.video.selfie import write_selfie

WIDTH, HELD_OUT = 270, 60
WRONG = TRACKING_ERROR | {"rotation": math.radians(2.0), "translation": 0.0015}


def selfie(folder: Path, head: FlameModel) -> Capture:
    """The truth of a selfie as a capture over white, of which the last frames are held out."""
    capture = load_capture(folder / TRUTH, head=head, resolution=WIDTH)
    views = [*capture.train, *capture.test]
    return replace(capture, train=views[:-HELD_OUT], test=views[-HELD_OUT:])


def learnt(capture: Capture, flame: FlameSequence, head: FlameModel, steps: int, seed: int) -> Avatar:
    config = TrainConfig(iterations=steps, interval=steps, seed=seed, sh_degree=0, white_background=True)
    with tempfile.TemporaryDirectory() as place:
        return train(config, replace(capture, test=[], flame=flame), head, place)


def refined(avatar: Avatar, tracked: FlameSequence, groups: Sequence[Sequence[View]]) -> FlameSequence:
    own = replace(LANDMARK_ERRORS, neck=None, hair=None)  # the tracker's are of root and neck, each by itself
    return refine(avatar, tracked, groups, WHITE, own, State.of(tracked, own))


def of(capture: Capture, head: FlameModel, steps: int, seed: int) -> dict[str, object]:
    true = capture.flame
    assert true is not None
    tracked = with_tracking_error(true, seed, WRONG)
    training, held_out = ([v.timestep for v in views if v.timestep is not None] for views in (capture.train, capture.test))

    def psnr(avatar: Avatar, sequence: FlameSequence) -> float:
        return evaluate(Avatar(avatar.gaussians, head, sequence), capture.test, WHITE).mean["PSNR"]

    def off(sequence: FlameSequence) -> dict[str, dict[str, float]]:
        return {"training": errors(sequence, true, head, training), "held_out": errors(sequence, true, head, held_out)}

    began = time.process_time()
    limit = learnt(capture, true, head, steps, seed)
    found: dict[str, object] = {"seed": seed, "tracked": off(tracked), "true": psnr(limit, true)}
    first = learnt(capture, tracked, head, steps, seed)
    assert first.sequence is not None
    found["first"] = {"training": errors(first.sequence, true, head, training), "psnr": psnr(first, tracked)}
    once = refined(first, first.sequence, [capture.train, capture.test])
    found["refined_once"] = off(once) | {"psnr": psnr(first, once)}
    second = learnt(capture, once, head, steps, seed)
    assert second.sequence is not None
    twice = refined(second, second.sequence, [capture.test])
    found["trained_again"] = off(twice) | {"psnr": psnr(second, twice)}
    return found | {"cpu_seconds": time.process_time() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--capture", type=Path, help="selfie that `synth` wrote; made anew where it is not given")
    parser.add_argument("--steps", type=int, default=1200, help="of each training")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    head, results = FlameModel.builtin(), []
    with tempfile.TemporaryDirectory() as place:
        capture = selfie(given.capture or write_selfie(Path(place) / "selfie"), head)
        for seed in given.seeds:
            results.append(of(capture, head, given.steps, seed))
            print(json.dumps(results[-1]), flush=True)
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
