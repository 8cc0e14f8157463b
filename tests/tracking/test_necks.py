"""The head's pose apart from the neck's: what moves, what stays, and how a turn is shared."""

from dataclasses import replace

import pytest
import torch

from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.synthetic.selfie import selfie_performance
from taichi_avatars.tracking.clip_equations import Clip
from taichi_avatars.tracking.necks import arm_of, head_first, root_first
from taichi_avatars.tracking.shoulders import bend

COUNT = 120
ROWS = list(range(COUNT))


@pytest.fixture(scope="module")
def selfie(head) -> FlameSequence:
    """Twelve seconds of turns, whose shoulders follow by an eighth to a quarter."""
    return selfie_performance(head, torch.arange(COUNT).numpy() / 10, 12.0, 0, torch.zeros(head.n_shape))


@pytest.fixture(scope="module")
def straight(head, selfie) -> FlameSequence:
    """The same as a tracker finds it that knows no neck."""
    found = replace(selfie, **head_first(selfie.moving(), arm_of(head, selfie.shaped(head))))
    return replace(found, neck_pose=torch.zeros(COUNT, 3))


def clip(scene: torch.Tensor) -> Clip:
    count = len(scene)
    return Clip(
        torch.zeros(count, 478, 3),
        torch.ones(count),
        torch.zeros(count, 52),
        torch.arange(count) / 10,
        scene,
        400,
        540,
        600.0,
        0.2,
    )


def apart(head, one: FlameSequence, other: FlameSequence, region: str) -> float:
    """Mean distance over every tenth row, millimetres."""
    at = head.regions[region]
    off = [one.mesh(head, k).vertices[at] - other.mesh(head, k).vertices[at] for k in range(0, COUNT, 10)]
    return 1e3 * float(torch.stack(off).norm(dim=2).mean())


def degrees(one: FlameSequence, other: FlameSequence) -> float:
    assert one.neck_pose is not None and other.neck_pose is not None
    return float((one.neck_pose - other.neck_pose).norm(dim=1).square().mean().sqrt().rad2deg())


def test_there_and_back(head, selfie):
    arm = arm_of(head, selfie.shaped(head))
    again = replace(selfie, **root_first(head_first(selfie.moving(), arm), arm))
    torch.testing.assert_close(again.table(), selfie.table(), atol=2e-6, rtol=0)
    neckless = {"rotation": selfie.rotation, "translation": selfie.translation}
    assert head_first(neckless, arm) == root_first(neckless, arm) == neckless


def test_the_neck_bends_and_the_head_stays(head, selfie, straight):
    assert apart(head, selfie, straight, "scalp") < 0.5 and apart(head, selfie, straight, "face") < 0.2
    assert apart(head, selfie, straight, "neck") > 1.5
    torch.testing.assert_close(straight.facing(ROWS), selfie.facing(ROWS), atol=1e-6, rtol=0)


def test_shoulders_follow_a_little(head, selfie, straight):
    bent = bend(head, straight, [clip(torch.zeros(COUNT))])
    assert degrees(bent, selfie) < 0.4 * degrees(straight, selfie)
    assert apart(head, bent, selfie, "neck") < 0.5 * apart(head, straight, selfie, "neck")
    torch.testing.assert_close(bent.facing(ROWS), straight.facing(ROWS), atol=1e-6, rtol=0)


def test_every_scene_and_video_has_a_middle_of_its_own(head, straight):
    turned = replace(
        straight, rotation=straight.rotation[:40].repeat(3, 1) + torch.arange(3.0).repeat_interleave(40)[:, None] / 9
    )
    cut = torch.cat([torch.zeros(40), torch.ones(40)])
    bent = bend(head, turned, [clip(cut), clip(torch.zeros(40))])
    assert bent.neck_pose is not None
    for part in (bent.neck_pose[40:80], bent.neck_pose[80:]):  # a head that has turned for good has brought its shoulders
        assert part.median(0).values.abs().max() < 0.05


def test_frames_without_a_face_say_nothing(head, straight):
    seen = clip(torch.zeros(COUNT))
    hidden = replace(seen, presence=(torch.arange(COUNT) < 40).float())
    one, other = bend(head, straight, [hidden]), bend(head, replace(straight, rotation=moved(straight)), [hidden])
    assert one.neck_pose is not None and other.neck_pose is not None
    torch.testing.assert_close(one.neck_pose[:40], other.neck_pose[:40], atol=1e-6, rtol=0)
    nobody = bend(head, straight, [replace(seen, presence=torch.zeros(COUNT))])
    torch.testing.assert_close(nobody.table(), straight.table(), atol=1e-6, rtol=0)


def moved(straight: FlameSequence) -> torch.Tensor:
    return torch.cat([straight.rotation[:40], straight.rotation[40:] + 0.3])
