"""A whole refinement: which parameters of which capture, saved as it goes, written into the model or as a capture."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from taichi_avatars.avatar.iterations import REFINED_NAME, iteration_folder
from taichi_avatars.avatar.model_folder import TrainedModel
from taichi_avatars.errors import UserError
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.capture import Capture
from taichi_avatars.tracking import captures, progress
from taichi_avatars.tracking.refine import STAGES, Errors, Fitted, State, refine
from taichi_avatars.training.interrupts import sigterm_as_ctrl_c

PARTIAL = "refine.partial.npz"  # of what an interrupted refinement has done
SAVE_SECONDS = 10.0
SPLITS = ("train", "test")


def refine_model(
    model: TrainedModel,
    capture: Capture,
    out: Path | None,
    errors: Errors,
    *,
    splits: Sequence[str] = SPLITS,
    resume: bool | None = False,
    seed: int = 0,
    on_progress: Callable[[int, int, Fitted], None] | None = None,
) -> dict[str, object]:
    """Refines every timestep of a capture that its training or held-out views show.

    Training timesteps learn from the training cameras alone: a camera that is held out at them stays unseen. Timesteps that are
    held out learn nothing from training ones, nor these from them.

    Args:
        capture: of the person; without `out` the one that the model was trained on.
        out: folder of the refined capture; None writes the parameters beside the model's avatar.
        splits: whose timesteps are refined; "train" and "test".
        resume: continue where an interrupted refinement with the same arguments stopped; None: if there is one.
        on_progress: called with timesteps done, of how many (all stages), and the last one.

    Returns:
        What the command prints: "timesteps": [{"timestep", "split", "before", "after"}, ...], and their means by split.

    Raises:
        UserError: where avatar, capture and `out` do not fit together, or something cannot be read or written.
        KeyboardInterrupt: passed on after everything was saved.
    """
    avatar = model.avatar
    if avatar.head is None or avatar.sequence is None or capture.flame is None:
        raise UserError(f"{model.folder}: a static scene has no FLAME parameters; refine the model of a head")
    own = model.source is not None and model.source.resolve() == capture.path.resolve()
    if out is None and not own:
        raise UserError(f"{capture.path}: is not the capture that {model.folder} was trained on; say with -o where to write")
    if out is not None:
        captures.check_place(out, capture.path)
    sequence = avatar.sequence
    if not own or not set(capture.flame.timesteps) <= set(sequence.timesteps):
        sequence = replace(capture.flame, shape=sequence.shape, static_offset=sequence.static_offset)
    groups = [getattr(capture, split) for split in splits]
    beside = iteration_folder(model.folder, model.iteration)
    beside = beside if beside.is_dir() else model.folder
    partial = (model.folder if out is None else out.parent) / (PARTIAL if out is None else f".{out.name}-{PARTIAL}")
    made_of = progress.digest(avatar, sequence, groups, errors, seed)
    goes_on = partial.is_file() if resume is None else resume
    state = progress.load(partial, made_of) if goes_on else State.of(sequence, errors)

    began = saved = time.monotonic()
    shown = {view.timestep for group in groups for view in group}
    total = len(STAGES) * len(shown)

    def on_timestep(fitted: Fitted) -> None:
        nonlocal saved
        if on_progress is not None:
            on_progress(int(state.fitted.sum()), total, fitted)
        if time.monotonic() - saved > SAVE_SECONDS:
            progress.save(partial, state, made_of)
            saved = time.monotonic()

    try:
        with sigterm_as_ctrl_c():
            refined = refine(
                avatar, sequence, groups, model.background, errors, state, seed=seed, on_timestep=on_timestep
            )  # fmt: skip
    except KeyboardInterrupt:
        progress.save(partial, state, made_of)
        raise
    result = _scores(state, sequence, capture, splits)
    if out is None:
        place = beside / REFINED_NAME
        refined.save_npz(place)
    else:
        place = out
        facts = {
            "model": str(model.folder),
            "iteration": model.iteration,
            **{k: result[k] for k in SPLITS if k in result},
        }
        captures.write_refined(out, capture.path, avatar.head, refined, facts)
    partial.unlink(missing_ok=True)
    return {"refined": str(place), "seconds": round(time.monotonic() - began, 1), **result}


def _scores(state: State, sequence: FlameSequence, capture: Capture, splits: Sequence[str]) -> dict[str, object]:
    """PSNR before and after of every timestep, over the pictures of the last stage, and the means of each split."""
    result: dict[str, object] = {}
    listing: list[dict[str, object]] = []
    taken: set[int | None] = set()
    for split in splits:
        timesteps = sorted({v.timestep for v in getattr(capture, split) if v.timestep is not None} - taken)
        taken |= set(timesteps)
        scores = state.scores[[sequence.row(timestep) for timestep in timesteps]]
        if timesteps:
            before, after = scores.mean(0).tolist()
            result[split] = {"timesteps": len(timesteps), "psnr_before": before, "psnr_after": after}
        for timestep, (before, after) in zip(timesteps, scores.tolist(), strict=True):
            listing.append({"timestep": timestep, "split": split, "psnr_before": before, "psnr_after": after})
    return {**result, "timesteps": listing}
