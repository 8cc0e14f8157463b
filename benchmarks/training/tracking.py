"""Accuracy of tracked parameters after training and refining, measured against the ground truth of `synth`.

    python benchmarks/training/tracking.py [--steps 1500] [--seeds 0 1 2] [--capture FOLDER] [--train-on true] [--out FILE.json]

For each seed: train, refine the held-out timesteps, and measure. Vertex error is the mean distance over head and timesteps, mm;
its gauge the mean length of what all of them are off by alike; errors of expressions are root mean squares, in units. PSNR is
that of the held-out camera, and of held-out expressions with tracked, refined and true parameters. With `--train-on true` the
avatar is trained and tested on true parameters: the limit of what tracking could give.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.config import TrainConfig
from taichi_avatars.evaluation.scores import evaluate
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.capture import Capture, load_capture
from taichi_avatars.synthetic.capture import write_capture
from taichi_avatars.synthetic.folder import TRUTH
from taichi_avatars.tracking.refine import Errors, State, refine
from taichi_avatars.training.trainer import train

WHITE = (1.0, 1.0, 1.0)


def errors(found: FlameSequence, true: FlameSequence, head: FlameModel, timesteps: list[int]) -> dict[str, float]:
    """Millimetres, and units of expressions."""
    off = torch.stack([found.mesh(head, found.row(t)).vertices - true.mesh(head, true.row(t)).vertices for t in timesteps])
    rows = [(found.row(t), true.row(t)) for t in timesteps]
    expressions = torch.stack([found.expr[a] - true.expr[b] for a, b in rows])
    return {
        "vertices_mm": 1e3 * float(off.norm(dim=-1).mean()),
        "gauge_mm": 1e3 * float(off.mean(0).norm(dim=-1).mean()),
        "expressions": float(expressions.square().mean().sqrt()),
    }


@torch.no_grad()
def of(avatar: Avatar, capture: Capture, true: FlameSequence, refining: bool) -> dict[str, object]:
    """Errors and PSNRs of a trained avatar; `capture` as it was trained on, with its held-out views."""
    head, tuned, tracked = avatar.head, avatar.sequence, capture.flame
    assert head is not None and tuned is not None and tracked is not None

    def psnr(sequence: FlameSequence) -> float:
        return evaluate(Avatar(avatar.gaussians, head, sequence), capture.test, WHITE).mean["PSNR"]

    training, held_out = (
        sorted({v.timestep for v in views if v.timestep is not None}) for views in (capture.train, capture.test)
    )
    found: dict[str, object] = {
        "gaussians": len(avatar.gaussians),
        "training": {"tracked": errors(tracked, true, head, training), "tuned": errors(tuned, true, head, training)},
        "held_out": {"tracked": errors(tracked, true, head, held_out)},
        "novel_view": evaluate(avatar, capture.val, WHITE).mean["PSNR"],
        "reenactment": {"tracked": psnr(tuned), "true": psnr(true)},
    }
    if refining:
        began = time.process_time()
        with torch.enable_grad():
            refined = refine(avatar, tuned, [capture.test], WHITE, Errors(), State.of(tuned, Errors()))
        found["refine_cpu_seconds"] = time.process_time() - began
        found["held_out"]["refined"] = errors(refined, true, head, held_out)  # pyright: ignore[reportIndexIssue]
        found["reenactment"]["refined"] = psnr(refined)  # pyright: ignore[reportIndexIssue]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--capture", type=Path, help="written by `synth`; created if not given")
    parser.add_argument("--train-on", choices=["tracked", "true"], default="tracked")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    head, results = FlameModel.builtin(), []
    with tempfile.TemporaryDirectory() as place:
        folder = given.capture or write_capture(Path(place) / "capture")
        truth = load_capture(folder / TRUTH, head=head)
        assert truth.flame is not None
        capture = truth if given.train_on == "true" else load_capture(folder, head=head)
        for seed in given.seeds:
            config = TrainConfig(iterations=given.steps, interval=given.steps, seed=seed, white_background=True)
            began = time.process_time()
            avatar = train(config, replace(capture, val=[], test=[]), head, Path(place) / f"{seed}")
            seconds = time.process_time() - began
            found = of(avatar, capture, truth.flame, given.train_on == "tracked")
            result = {"seed": seed, "train_cpu_seconds": seconds, **found}
            results.append(result)
            print(json.dumps(result), flush=True)
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
