"""A few steps of real training on a tiny capture of the built-in subject: it learns, it repeats, it resumes, it saves."""

import operator
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from taichi_avatars import Avatar, training
from taichi_avatars.avatar.density import prune_mask
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.scores import evaluate
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.scene.views import View
from taichi_avatars.synthetic.capture import write_capture
from taichi_avatars.training import densify, trainer
from taichi_avatars.training import schedule as schedules
from taichi_avatars.training.events import Evaluated, Progress, Saved
from taichi_avatars.training.run import Run
from taichi_avatars.training.trainer import train

SHORT = TrainConfig(schedule="paper", iterations=40, white_background=True, interval=20, densify_grad_threshold=1e-6)


def test_a_fast_run_begins_where_the_papers_has_hardly_begun(tmp_path, capture, head):
    events = {"fast": [], "paper": []}
    for schedule, seen in events.items():
        config = SHORT.model_copy(update={"schedule": schedule, "start_gaussians": 12_000, "iterations": 10})
        train(config, capture, head, tmp_path / schedule, seen.append)
    (fast,), (paper,) = ([e for e in seen if isinstance(e, Progress)] for seen in events.values())
    assert fast.gaussians == 12_000 and paper.gaussians == head.num_faces
    assert fast.loss < 0.6 * paper.loss


def test_a_run_does_not_begin_beyond_its_limit(capture, head):
    run = Run(TrainConfig(start_gaussians=12_000, max_gaussians=11_000), capture, head)
    run.stream.close()
    assert len(run.optimizer.gaussians) == 11_000


def test_a_fast_run_resumes_bit_by_bit(tmp_path, capture, head):
    config = SHORT.model_copy(update={"schedule": "fast", "iterations": 20, "interval": 10})
    whole = train(config, capture, head, tmp_path / "whole")
    train(config.model_copy(update={"iterations": 20, "checkpoint_iterations": [10]}), capture, head, tmp_path / "half")
    resumed = train(config, capture, head, tmp_path / "half", start_checkpoint=tmp_path / "half" / "chkpnt10.pth")
    for name, values in whole.gaussians.parameters().items():
        assert torch.equal(values, getattr(resumed.gaussians, name)), name


def test_it_learns_saves_and_tells(tmp_path, capture, head):
    events = []
    avatar = train(SHORT, capture, head, tmp_path, events.append)
    progress = [e for e in events if isinstance(e, Progress)]
    assert [e.iteration for e in progress] == [10, 20, 30, 40]
    assert progress[-1].loss < 0.6 * progress[0].loss
    assert [(e.iteration, e.split) for e in events if isinstance(e, Evaluated)] == [
        (20, "val"),
        (20, "test"),
        (40, "val"),
        (40, "test"),
    ]
    assert [e.iteration for e in events if isinstance(e, Saved)] == [20, 40]
    view = capture.train[0]
    loaded = Avatar.load(tmp_path)
    image = avatar.render(view.camera, view.timestep, background=(1.0, 1.0, 1.0)).image
    assert torch.equal(loaded.render(view.camera, view.timestep, background=(1.0, 1.0, 1.0)).image, image)
    for name in ("log.jsonl", "config.toml", "cfg_args", "cameras.json", "checkpoint.pt", "point_cloud/iteration_40/head.json"):
        assert (tmp_path / name).is_file(), name
    assert TrainConfig.from_toml(tmp_path / "config.toml") == SHORT


def test_images_with_opacity_are_learnt_over_any_colour(tmp_path, head):
    """What was only seen over white may shine through: over black, too, an avatar is what its images show."""
    folder = tmp_path / "subject"
    write_capture(folder, width=45, height=60, timesteps=2, test_timesteps=0, cameras=4, supersample=1, rgba=True)
    capture = load_capture(folder, head=head)
    found = {}
    for background in ("random", "shown"):
        options = {"iterations": 60, "interval": 60, "start_gaussians": 12_000, "white_background": True}
        config = TrainConfig(train_background=background, **options)
        avatar = train(config, capture, head, tmp_path / background)
        found[background] = [evaluate(avatar, capture.train, colour).mean["PSNR"] for colour in ((0, 0, 0), (1, 1, 1))]
    assert found["random"][0] > found["shown"][0] + 1.0, found
    assert found["random"][1] > found["shown"][1] - 1.0, found


def test_the_colour_behind_is_that_of_the_step(capture, head):
    run = trainer.Run(TrainConfig(start_gaussians=12_000, white_background=True), capture, head)
    run.stream.close()
    colours = []
    for run.iteration in range(4):
        colours.append(run.behind())
        assert run.behind() == colours[-1] and all(0.0 <= value <= 1.0 for value in colours[-1])
    assert colours[1] == colours[3] == run.background and len(set(colours)) == 3, "every other step over another colour"
    assert run.background == (1.0, 1.0, 1.0), "what is shown and evaluated"


def bits(model: Path, iteration: int = 40) -> list[bytes]:
    folder = model / "point_cloud" / f"iteration_{iteration}"
    return [
        (folder / "point_cloud.ply").read_bytes(),
        *(v.tobytes() for _, v in sorted(_npz(folder / "flame_param.npz").items())),
    ]


def _npz(path: Path) -> dict:
    import numpy as np

    with np.load(path) as data:
        return dict(data)


@pytest.fixture
def densifying(monkeypatch, head) -> TrainConfig:
    """24 steps with densifications after 10, 15 and 20."""
    monkeypatch.setattr("taichi_avatars.training.schedule.SHORTEST_INTERVAL", 5)
    return SHORT.model_copy(update={"iterations": 24, "interval": 1000, "max_gaussians": head.num_faces + 500})


def interrupting(function, *, at_call: int, times: int = 1):
    """The function, with Ctrl-C pressed at the beginning of one of its calls."""
    calls = 0

    def wrapped(*arguments, **keywords):
        nonlocal calls
        calls += 1
        if calls == at_call:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return function(*arguments, **keywords)

    return wrapped


@pytest.mark.parametrize(
    ("where", "call", "saved"),
    [
        ("losses.image_loss", 1, 1),
        ("trainer.control_density", 11, 11),
        ("checkpoint.save_last", 1, 24),
        ("results.describe", 1, 0),
    ],
    ids=["first step", "densification", "saving", "before the first step"],
)
def test_ctrl_c_saves_and_resuming_gives_the_same_bits(tmp_path, capture, head, densifying, monkeypatch, where, call, saved):
    train(densifying, capture, head, tmp_path / "whole")
    with monkeypatch.context() as patch:
        function = operator.attrgetter(where)(training)
        patch.setattr(f"taichi_avatars.training.{where}", interrupting(function, at_call=call))
        with pytest.raises(KeyboardInterrupt):
            train(densifying, capture, head, tmp_path / "parts")
    assert (tmp_path / "parts" / "point_cloud" / f"iteration_{saved}" / "point_cloud.ply").is_file()
    events = []
    train(densifying, capture, head, tmp_path / "parts", events.append, resume=True)
    assert bits(tmp_path / "parts", 24) == bits(tmp_path / "whole", 24)
    assert all(e.psnr > 5.0 for e in events if isinstance(e, Progress)), "the running mean begins anew"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_twice_leaves_at_once_and_saves_no_half_step(tmp_path, capture, head, densifying, monkeypatch):
    monkeypatch.setattr("taichi_avatars.training.densify.prune_mask", interrupting(prune_mask, at_call=1, times=2))
    with pytest.raises(KeyboardInterrupt):
        train(densifying, capture, head, tmp_path)
    assert not (tmp_path / "point_cloud").exists()
    assert not (tmp_path / "checkpoint.pt").exists()


def test_what_is_saved_has_not_just_been_densified(tmp_path, capture, head, densifying):
    """Steps 10 and 15 call for a densification: it is done when the next step begins."""
    run, counts = Run(densifying.model_copy(update={"max_gaussians": 100_000}), capture, head), []
    for _ in range(16):
        trainer.step(run, [next(run.stream)])
        counts.append(len(run.optimizer.gaussians))
    run.stream.close()
    assert counts[9] == head.num_faces < counts[10]
    assert counts[10] == counts[14] < counts[15]


def test_density_control_keeps_every_triangle(tmp_path, capture, head, densifying):
    avatar = train(densifying, capture, head, tmp_path)
    count = torch.bincount(avatar.gaussians.binding, minlength=head.num_faces)
    assert len(avatar.gaussians) > head.num_faces
    assert len(avatar.gaussians) <= head.num_faces + 500
    assert (count >= 1).all()


def test_what_lies_behind_contributes_nothing():
    """An opaque Gaussian hides another one behind it; beside them a faint one gives as much less as it is fainter."""
    means = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, -0.2], [0.3, 0.0, 0.0], [-0.3, 0.0, 0.0]])
    gaussians = Gaussians.from_points(means, torch.full((4, 3), 0.5), 0)
    gaussians.log_scales = torch.full((4, 3), 0.02).log()
    gaussians.log_scales[1] -= 1.0
    gaussians.logit_opacities = torch.tensor([0.999, 0.9, 0.2, 0.4]).logit()
    camera = Camera.look_at(torch.tensor([0.0, 0.0, 2.0]), torch.zeros(3), 0.5, 90, 90)
    view = View(camera, None, 0, "0", "0", Path("image.png"), None)
    front, behind, fainter, faint = densify.contributions(Avatar(gaussians), [view] * 200).pow(1 / 3).tolist()  # sums of cubes
    assert behind < 0.5 * fainter and fainter < faint < front
    assert faint / fainter == pytest.approx(2.0, abs=0.2)


def test_a_run_gives_up_half_of_its_gaussians_where_it_is_told(tmp_path, capture, head, monkeypatch):
    monkeypatch.setattr(schedules, "SHORTEST_INTERVAL", 1)
    config = TrainConfig(iterations=10, interval=10, start_gaussians=40_000, prune_share=0.5, white_background=True)
    avatar = train(config, capture, head, tmp_path)
    assert (torch.bincount(avatar.gaussians.binding, minlength=head.num_faces) >= 1).all()
    assert 20_000 <= len(avatar.gaussians) < 32_000  # triangles that no camera sees keep theirs


def test_one_image_is_a_capture(tmp_path, capture, head):
    """Monocular and still: one camera, one timestep, nothing held out."""
    events = []
    train(SHORT, replace(capture, train=capture.train[:1], val=[], test=[]), head, tmp_path, events.append)
    losses = [e.loss for e in events if isinstance(e, Progress)]
    assert losses[-1] < losses[0]
    assert not any(isinstance(e, Evaluated) for e in events)


def test_a_folder_that_cannot_be_is_one_line(tmp_path, capture, head):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"log\.jsonl: cannot be written") as caught:
        train(SHORT, capture, head, tmp_path / "file" / "model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("room", [100_000, 1_000_000])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path, capture, head, room):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))  # no file may grow beyond it
    try:
        with pytest.raises(UserError, match=r"checkpoint\.pt: cannot be written") as caught:
            train(SHORT.model_copy(update={"iterations": 1, "sh_degree": 0}), capture, head, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "checkpoint.pt").exists()
    assert not list(tmp_path.rglob(".*"))


def test_only_training_timesteps_are_tuned(tmp_path, capture, head):
    avatar = train(SHORT, capture, head, tmp_path)
    tracked, tuned = capture.flame, avatar.sequence
    assert tracked is not None
    assert tuned is not None
    for row, timestep in enumerate(tracked.timesteps):
        same = torch.equal(tracked.rotation[row], tuned.rotation[row])
        assert same == (timestep in {v.timestep for v in capture.test})


def test_fine_tuning_can_be_switched_off(tmp_path, capture, head):
    avatar = train(SHORT.model_copy(update={"not_finetune_flame_params": True}), capture, head, tmp_path)
    assert capture.flame is not None
    assert avatar.sequence is not None
    assert torch.equal(avatar.sequence.expr, capture.flame.expr)


def test_the_dynamic_offset_is_tuned_saved_and_resumed(tmp_path, capture, head):
    losses = {"lambda_dynamic_offset": 0.1, "lambda_dynamic_offset_std": 0.1, "lambda_laplacian": 0.1}
    config = SHORT.model_copy(update={**losses, "iterations": 12, "interval": 6})
    avatar = train(config, capture, head, tmp_path / "whole")
    offset = avatar.sequence.dynamic_offset
    trained = [avatar.sequence.row(t) for t in {v.timestep for v in capture.train}]
    assert offset.shape == (len(avatar.sequence), head.num_vertices, 3)
    assert all(offset[row].abs().max() > 1e-5 for row in trained)
    assert not offset[avatar.sequence.row(capture.test[0].timestep)].any()
    loaded = Avatar.load(tmp_path / "whole")
    assert torch.equal(loaded.sequence.dynamic_offset, offset)
    view = capture.train[0]
    torch.testing.assert_close(loaded.mesh(view.timestep).vertices, avatar.mesh(view.timestep).vertices)
    kept = config.model_copy(update={"checkpoint_iterations": [5]})
    train(kept, capture, head, tmp_path / "kept")
    train(kept, capture, head, tmp_path / "again", start_checkpoint=tmp_path / "kept" / "chkpnt5.pth")
    assert bits(tmp_path / "again", 12) == bits(tmp_path / "whole", 12)


def test_without_its_losses_no_offset_is_tuned(capture, head):
    run = Run(SHORT, capture, head)
    assert run.neighbours is None
    assert run.avatar.sequence.dynamic_offset is None
    fixed = SHORT.model_copy(update={"lambda_laplacian": 1.0, "not_finetune_flame_params": True})
    assert Run(fixed, capture, head).neighbours is None


def test_steps_of_ones_own_are_evaluated_saved_and_kept(tmp_path, capture, head):
    own = {"test_iterations": [3, 5, 900], "save_iterations": [4], "checkpoint_iterations": [2, -1], "iterations": 8}
    events = []
    config = SHORT.model_copy(update={**own, "interval": 2})
    train(config, capture, head, tmp_path, events.append)
    assert [e.iteration for e in events if isinstance(e, Evaluated) and e.split == "val"] == [3, 5, 8]
    assert [e.iteration for e in events if isinstance(e, Saved)] == [4, 8]
    assert sorted(path.name for path in (tmp_path / "point_cloud").iterdir()) == ["iteration_4", "iteration_8"]
    assert [path.name for path in tmp_path.glob("chkpnt*")] == ["chkpnt2.pth"]
    assert TrainConfig.from_toml(tmp_path / "config.toml") == config


def test_a_checkpoint_of_other_options_is_refused(tmp_path, capture, head):
    train(SHORT, capture, head, tmp_path)
    with pytest.raises(UserError, match="feature_lr"):
        train(SHORT.model_copy(update={"feature_lr": 0.1, "iterations": 50}), capture, head, tmp_path, resume=True)


def test_a_checkpoint_of_another_capture_is_refused(tmp_path, capture, head):
    """The same number of timesteps, but other images: the order of the stream would mean something else."""
    config = SHORT.model_copy(update={"iterations": 1})
    train(config, capture, head, tmp_path)
    with pytest.raises(UserError, match="another capture"):
        train(config, replace(capture, train=capture.train[1:]), head, tmp_path, resume=True)


def test_children_that_are_still_huge_are_pruned(capture, head):
    """After a reset, at the size that they have now, not at that of their parents."""
    run = Run(SHORT.model_copy(update={"densify_grad_threshold": 1.0}), capture, head)
    gaussians, extent = run.optimizer.gaussians, capture.extent
    gaussians.log_scales.detach()[:2] = torch.tensor([[0.5], [0.12]]).log() + torch.tensor(extent).log()
    run.density.gradient[:2], run.density.seen[:2] = 2.0, 1.0
    run.was_reset = True
    run.triangle_scale = torch.ones(head.num_faces)
    densify._densify(run)
    left = run.optimizer.gaussians.binding.bincount(minlength=head.num_faces)
    assert left[:2].tolist() == [1, 2]  # 0.5 / 1.6 is above a tenth of the extent, 0.12 / 1.6 below


def test_an_unbound_scene_may_lose_all_its_gaussians(tmp_path, capture, monkeypatch):
    monkeypatch.setattr("taichi_avatars.training.schedule.SHORTEST_INTERVAL", 5)
    monkeypatch.setattr("taichi_avatars.avatar.density.MIN_OPACITY", 2.0)
    still = [replace(view, timestep=None) for view in capture.train[:2]]
    points = torch.zeros(5, 3), torch.rand(5, 3)
    static = replace(capture, kind="blender", train=still, val=still[:1], test=[], flame=None, points=points)
    config = TrainConfig(iterations=20, interval=1000)
    assert len(train(config, static, None, tmp_path).gaussians) == 0
    assert len(Avatar.load(tmp_path).gaussians) == 0


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_damaged_or_missing_checkpoint_is_one_line(tmp_path, capture, head, content):
    if content is not None:
        (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"checkpoint\.pt") as caught:
        train(SHORT, capture, head, tmp_path, resume=True)
    assert "\n" not in str(caught.value)


def test_static_scene_without_a_head(tmp_path, capture):
    """Points and cameras alone: the unbound case."""
    g = torch.Generator().manual_seed(0)
    points = (torch.rand(300, 3, generator=g) - 0.5) * 0.2, torch.rand(300, 3, generator=g)
    still = [replace(view, timestep=None) for view in capture.train if view.timestep == 0]
    static = replace(capture, kind="blender", train=still, val=[], test=[], flame=None, points=points)
    events = []
    avatar = train(SHORT, static, None, tmp_path, events.append)
    assert avatar.gaussians.binding is None
    losses = [e.loss for e in events if isinstance(e, Progress)]
    assert losses[-1] < losses[0]
    assert Avatar.load(tmp_path).head is None
