"""Parameters fitted to pictures through a frozen avatar: what is found, what stays, what is written, and going on."""

import json
import typing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from taichi_avatars import Avatar
from taichi_avatars.avatar.iterations import REFINED_NAME
from taichi_avatars.avatar.model_folder import load_model, load_source
from taichi_avatars.cli import run
from taichi_avatars.cli.refine import refine as refine_command
from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.head.sequence import FlameSequence, columns
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.tracking import captures, job
from taichi_avatars.tracking.evidence import Actor, Pictures, Shape
from taichi_avatars.tracking.refine import LANDMARK_ERRORS, LEAST_CURVATURE, STAGES, Errors, State, refine, with_secant
from taichi_avatars.training.trainer import train

WHITE = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory, capture, head) -> Path:
    folder = tmp_path_factory.mktemp("refine") / "model"
    config = TrainConfig(iterations=30, interval=30, start_gaussians=12_000, white_background=True, sh_degree=0)
    train(config, capture, head, folder)
    return folder


@pytest.fixture(scope="module")
def filmed(tmp_path_factory, capture, model) -> tuple[Avatar, list, list]:
    """The avatar, and training and held-out views with pictures of itself: there is a truth that they show."""
    avatar, folder = Avatar.load(model), tmp_path_factory.mktemp("filmed")
    splits = []
    for views in (capture.train, capture.test):
        large = [replace(view, camera=view.camera.resized(135, 180)) for view in views]
        for number, view in enumerate(large):
            image = avatar.render(view.camera, view.timestep, background=WHITE).image.clamp(0, 1)
            large[number] = replace(view, image=folder / f"{view.name}.png")
            Image.fromarray((255 * image).round().byte().permute(1, 2, 0).numpy()).save(large[number].image)
        splits.append(large)
    return avatar, *splits


def mistracked(avatar: Avatar, errors: Errors) -> FlameSequence:
    sequence = avatar.sequence
    sigma = errors.sigma(sequence.widths())
    off = torch.randn(len(sigma), generator=torch.Generator().manual_seed(3)) * sigma
    return sequence.with_table(sequence.table() + off)


def millimetres(avatar: Avatar, one: FlameSequence) -> torch.Tensor:
    """(T,) mean distance of the vertices from those of the avatar's own sequence."""
    shape = Shape.of(avatar.head, avatar.sequence)
    a, b = (shape.vertices(sequence.table()) for sequence in (one, avatar.sequence))
    return 1e3 * (a - b).norm(dim=2).mean(1)


def test_what_pictures_show_is_found(filmed):
    avatar, shown, unseen = filmed
    errors = Errors()
    tracked, state, fitted = mistracked(avatar, errors), State.of(avatar.sequence, errors), []
    found = refine(avatar, tracked, [shown, unseen], WHITE, errors, state, on_timestep=fitted.append)
    before, after = millimetres(avatar, tracked), millimetres(avatar, found)
    assert (after < 0.3 * before).all(), (before, after)
    wrong = [(sequence.expr - avatar.sequence.expr).square().mean() for sequence in (tracked, found)]
    assert wrong[1] < wrong[0], "expressions are no worse in their units"
    assert all(one.after > one.before + 2.0 for one in fitted[-3:])
    assert len(fitted) == len(STAGES) * 3 and bool(state.fitted.all())


def test_held_out_timesteps_neither_teach_nor_learn(filmed):
    avatar, shown, unseen = filmed
    tracked = mistracked(avatar, Errors())
    both = refine(avatar, tracked, [shown, unseen], WHITE, Errors(), state := State.of(tracked, Errors()))
    alone = State.of(tracked, Errors())
    alone.matrices = state.matrices
    apart = refine(avatar, tracked, [shown], WHITE, Errors(), alone)
    assert torch.equal(apart.table()[:2], both.table()[:2])
    assert torch.equal(apart.table()[2], tracked.table()[2]), "without a picture as it was tracked"


def test_a_strong_prior_keeps_what_was_tracked(filmed):
    avatar, shown, _ = filmed
    tracked = mistracked(avatar, Errors())
    kept = refine(avatar, tracked, [shown], WHITE, Errors(evidence=1e-6), State.of(tracked, Errors()))
    assert torch.allclose(kept.table(), tracked.table(), atol=1e-6)


@pytest.mark.parametrize("neck_apart", [False, True])
def test_the_jacobian_and_the_gradient_are_those_of_the_head(filmed, neck_apart):
    avatar, shown, _ = filmed
    actor = Actor(avatar, Shape.of(avatar.head, avatar.sequence, neck_apart=neck_apart, hair_sways=neck_apart), WHITE)
    numbers = actor.shape.numbers(avatar.sequence)[0]
    direction = torch.randn(len(numbers), generator=torch.Generator().manual_seed(0))
    ahead, behind = (actor.shape.vertices(numbers + sign * 1e-3 * direction) for sign in (1, -1))
    assert torch.allclose(actor.shape.jacobian(numbers) @ direction, (ahead - behind).flatten() / 2e-3, atol=2e-3)
    pictures = Pictures.load(shown[:2], WHITE)
    away = numbers + 0.003 * direction
    slope = actor.evidence(away, None, pictures).gradient
    downhill = actor.evidence(away - 1e-3 * slope / slope.norm(), None, pictures, gradient=False)
    assert downhill.loss < actor.evidence(away, None, pictures, gradient=False).loss


def test_a_neck_that_bends_alone_is_found_and_leaves_the_head_where_it_is(filmed):
    avatar, shown, _ = filmed
    shape, errors = Shape.of(avatar.head, avatar.sequence, neck_apart=True), Errors(neck=0.1)
    numbers = shape.numbers(avatar.sequence)
    bent = numbers.clone()
    columns(bent, shape.widths)["neck_pose"] += torch.tensor([0.08, -0.12, 0.05])
    tracked = shape.sequence(bent, avatar.sequence)
    off = (shape.vertices(bent) - shape.vertices(numbers)).norm(dim=2)
    assert off[:, avatar.head.regions["scalp"]].mean() < 5e-4 < 2e-3 < off[:, avatar.head.regions["neck"]].mean()
    torch.testing.assert_close(tracked.facing([0]), avatar.sequence.facing([0]), atol=1e-5, rtol=0)
    found = refine(avatar, tracked, [shown], WHITE, errors, State.of(tracked, errors))
    wrong = [(one.neck_pose - avatar.sequence.neck_pose)[:2].norm() for one in (tracked, found)]
    assert wrong[1] < 0.6 * wrong[0], wrong


def test_a_neck_does_not_tremble(filmed):
    """Where pictures say little, they do not make shoulders jump from one timestep to the next."""
    avatar, shown, _ = filmed
    shape, errors = Shape.of(avatar.head, avatar.sequence, neck_apart=True), Errors(neck=0.1, evidence=2.0)
    bent = shape.numbers(avatar.sequence)
    columns(bent, shape.widths)["neck_pose"][:, 1] += torch.tensor([0.06, -0.06, 0.06])
    tracked = shape.sequence(bent, avatar.sequence)
    found = refine(avatar, tracked, [shown], WHITE, errors, State.of(tracked, errors))
    moved = (found.neck_pose - tracked.neck_pose)[:2, 1]
    assert (moved[0] - moved[1]).abs() < 0.06, moved


def test_how_the_hair_sways_is_found(filmed):
    avatar, shown, _ = filmed
    shape, errors = Shape.of(avatar.head, avatar.sequence, hair_sways=True), Errors(hair=0.005)
    blown = shape.numbers(avatar.sequence)
    columns(blown, shape.widths)["hair"] += 0.3 * torch.randn(1, 12, generator=torch.Generator().manual_seed(1))
    tracked = shape.sequence(blown, avatar.sequence)
    found = refine(avatar, tracked, [shown], WHITE, errors, State.of(tracked, errors))
    scalp = avatar.head.regions["scalp"]
    truth = avatar.sequence.vertices(avatar.head, slice(None))
    off = [(one.vertices(avatar.head, slice(None)) - truth)[:2, scalp].norm(dim=2).mean() for one in (tracked, found)]
    assert off[0] > 1e-3 and off[1] < 0.6 * off[0], off
    stays = refine(avatar, tracked, [shown], WHITE, Errors(), State.of(tracked, Errors()))
    assert torch.equal(stays.dynamic_offset, tracked.dynamic_offset)


def test_a_secant_teaches_what_was_seen_along_a_move():
    random = torch.Generator().manual_seed(0)
    root, move = torch.randn(9, 9, generator=random), torch.randn(9, generator=random)
    guess, truth = torch.eye(9) * 3.0, root @ root.T + torch.eye(9)
    taught = with_secant(guess, move, truth @ move)
    torch.testing.assert_close(taught @ move, truth @ move, rtol=1e-5, atol=1e-5)
    assert torch.linalg.eigvalsh(taught).min() > 0.0
    misled = with_secant(guess, move, -truth @ move)  # noise: there is no minimum that way
    torch.testing.assert_close(move @ misled @ move, LEAST_CURVATURE * (move @ guess @ move))
    assert torch.linalg.eigvalsh(misled).min() > 0.0


def test_into_the_model_and_as_a_capture(tmp_path, capture, model, monkeypatch):
    trained = load_model(model)
    source = load_source(trained)
    out = tmp_path / "refined"
    result = job.refine_model(trained, source, out, Errors())
    assert all(one["psnr_after"] >= one["psnr_before"] for one in result["timesteps"])
    assert [one["split"] for one in result["timesteps"]] == ["train", "train", "test"]
    again = load_capture(out, head=trained.avatar.head)
    for split in ("train", "val", "test"):
        pairs = list(zip(getattr(again, split), getattr(source, split), strict=True))
        assert all(a.image.samefile(b.image) and a.timestep == b.timestep and a.name == b.name for a, b in pairs)
        assert all(torch.equal(a.camera.world_to_camera, b.camera.world_to_camera) for a, b in pairs)
    assert torch.equal(again.flame.shape, trained.avatar.sequence.shape)
    assert not torch.equal(again.flame.expr, trained.avatar.sequence.expr)
    assert json.loads((out / "refined.json").read_text())["test"]["timesteps"] == 1
    job.refine_model(trained, source, out, Errors())  # its own capture is replaced
    with pytest.raises(UserError, match="not make"):
        captures.check_place(capture.path, out)
    with pytest.raises(UserError, match="itself"):
        captures.check_place(out, out)


def test_an_interrupted_one_goes_on_to_the_same_numbers(tmp_path, model):
    trained = load_model(model)
    source = load_source(trained)
    job.refine_model(trained, source, tmp_path / "whole", Errors())

    def interrupt(done, total, fitted):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.refine_model(trained, source, tmp_path / "parts", Errors(), on_progress=interrupt)
    assert not (tmp_path / "parts").exists()
    with pytest.raises(UserError, match="other options"):
        job.refine_model(trained, source, tmp_path / "parts", Errors(evidence=3.0), resume=True)
    done = []
    job.refine_model(
        trained, source, tmp_path / "parts", Errors(), resume=True, on_progress=lambda count, *_: done.append(count)
    )
    assert done == [5, 6]
    for name in ("00000", "00001", "00002"):
        whole, parts = (np.load(tmp_path / folder / "flame_param" / f"{name}.npz") for folder in ("whole", "parts"))
        assert all(np.array_equal(whole[key], parts[key]) for key in whole)
    with pytest.raises(UserError, match="no refinement here"):
        job.refine_model(trained, source, tmp_path / "parts", Errors(), resume=True)


def test_the_command_and_the_name_under_which_it_is_measured(model, capsys):
    assert run(["eval", "-m", str(model), "--lpips", "none", "-q", "--json"]) == 0
    tracked = json.loads(capsys.readouterr().out)
    assert tracked["parameters"] == "tracked"
    assert run(["eval", "-m", str(model), "--parameters", "refined", "-q"]) == 1
    assert "run `refine` first" in capsys.readouterr().err
    assert run(["refine", "-m", str(model), "-q", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert Path(result["refined"]).name == REFINED_NAME
    assert run(["eval", "-m", str(model), "--lpips", "none", "--parameters", "both", "-q", "--json"]) == 0
    both = json.loads(capsys.readouterr().out)["models"]
    assert [one["parameters"] for one in both] == ["tracked", "refined"]
    assert both[0]["test"]["psnr"] == tracked["test"]["psnr"] < both[1]["test"]["psnr"]
    held = json.loads((model / "results.json").read_text())
    assert set(held) == {"ours_30", "ours_30_refined"}
    assert load_model(model).parameters == "refined"
    (next(model.glob(f"point_cloud/*/{REFINED_NAME}"))).unlink()


@pytest.mark.parametrize(("by_track", "pose", "hair"), [(False, 0.003, None), (True, 0.02, 0.005)])
def test_what_track_made_errs_as_landmarks_do(by_track, pose, hair, model, capture, tmp_path, monkeypatch):
    asked = []
    (tmp_path / "tracking.json").write_text("{}") if by_track else None
    monkeypatch.setattr("taichi_avatars.avatar.model_folder.load_source", lambda *_: replace(capture, path=tmp_path))
    monkeypatch.setattr(job, "refine_model", lambda *given, **_: asked.append(given[3]) or {"refined": "", "seconds": 0.0})
    run(["refine", "-m", str(model), "--expr-sigma", "0.5", "--quiet"])
    assert (asked[0].pose, asked[0].hair, asked[0].expression) == (pose, hair, 0.5)
    run(["refine", "-m", str(model), "--hair-sigma", "0", "--neck-sigma", "0", "--quiet"])
    assert asked[1].hair is None and asked[1].neck is None


def test_the_help_says_what_is_usual():
    options = typing.get_type_hints(refine_command, include_extras=True)
    shown = {name: hint.__metadata__[0].show_default for name, hint in options.items() if name.endswith("_sigma")}
    usual, tracked = Errors(), LANDMARK_ERRORS
    for name, key in (("pose_sigma", "pose"), ("trans_sigma", "translation"), ("expr_sigma", "expression")):
        assert shown[name] == f"{getattr(usual, key)}; {getattr(tracked, key)} after `track`"
    assert shown["neck_sigma"].startswith(f"{tracked.neck} after") and shown["hair_sigma"].startswith(f"{tracked.hair} after")


def test_hair_of_a_head_without_regions_cannot_sway(filmed, monkeypatch):
    avatar, shown, _ = filmed
    monkeypatch.delitem(avatar.head.regions, "scalp")
    errors = Errors(hair=0.005)
    with pytest.raises(UserError, match="its hair cannot sway"):
        refine(avatar, avatar.sequence, [shown], WHITE, errors, State.of(avatar.sequence, errors))
