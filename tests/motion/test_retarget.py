"""Fitting a motion to another person: what is taken out, what is cut, what stays."""

import pytest
import roma
import torch
from avatar.small_avatar import small_motion

from taichi_avatars.errors import UserError
from taichi_avatars.motion.retarget import CLAMP_MARGIN, clamped_to, relative_to_neutral

KEPT = ("rotation", "neck_pose", "translation")


def test_the_median_face_becomes_neutral() -> None:
    motion = small_motion(n_expr=6, frames=5)
    got = relative_to_neutral(motion)
    torch.testing.assert_close(got.expr, motion.expr - motion.expr.median(0).values)
    torch.testing.assert_close(got.expr.median(0).values, torch.zeros(6))
    assert all(torch.equal(getattr(got, name), getattr(motion, name)) for name in KEPT)
    assert motion.expr.abs().sum() > 0  # the motion itself is not touched


@pytest.mark.parametrize(("neutral", "row"), [("first", 0), ("7", 2)])
def test_a_frame_becomes_neutral(neutral: str, row: int) -> None:
    motion = small_motion(n_expr=6, frames=5)
    motion.timesteps = [3, 5, 7, 8, 11]
    got = relative_to_neutral(motion, neutral)
    assert not got.expr[row].any()
    assert got.jaw_pose[row].abs().max() < 1e-6 and got.eyes_pose[row].abs().max() < 1e-6
    # Turned, not subtracted: the neutral turn followed by the rest is the motion's own.
    whole = roma.rotvec_to_rotmat(motion.jaw_pose[row]) @ roma.rotvec_to_rotmat(got.jaw_pose[4])
    torch.testing.assert_close(whole, roma.rotvec_to_rotmat(motion.jaw_pose[4]), atol=1e-6, rtol=0)
    right = roma.rotvec_to_rotmat(motion.eyes_pose[row, 3:]) @ roma.rotvec_to_rotmat(got.eyes_pose[4, 3:])
    torch.testing.assert_close(right, roma.rotvec_to_rotmat(motion.eyes_pose[4, 3:]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("neutral", ["99", "last", ""])
def test_no_such_neutral(neutral: str) -> None:
    with pytest.raises(UserError, match="timestep"):
        relative_to_neutral(small_motion(n_expr=2), neutral)


def test_a_motion_stays_in_the_range_of_training() -> None:
    """Component by component, with a margin; what never moved does not move; held-out timesteps do not count as seen."""
    seen = small_motion(n_expr=3, frames=4)
    seen.timesteps = [2, 4, 6, 9]
    seen.expr = torch.tensor([[0.0, -1.0, 0.5], [1.0, 1.0, 0.5], [0.5, 0.0, 0.5], [9.0, 9.0, 9.0]])
    seen.jaw_pose = torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.1, 0.0, 0.0], [9.0, 9.0, 9.0]])
    motion = small_motion(n_expr=3, frames=3)
    motion.expr = torch.tensor([[0.3, 0.2, 0.1], [5.0, -5.0, 5.0], [-5.0, 5.0, -5.0]])
    motion.jaw_pose = torch.tensor([[0.1, 0.0, 0.0], [1.0, 0.1, -0.1], [-1.0, 0.0, 0.0]])
    got = clamped_to(motion, seen, {2, 4, 6})
    m = CLAMP_MARGIN
    expected = [[0.3, 0.2, 0.5], [1 + m, -1 - 2 * m, 0.5], [-m, 1 + 2 * m, 0.5]]
    torch.testing.assert_close(got.expr, torch.tensor(expected))
    torch.testing.assert_close(got.jaw_pose[:, 0], torch.tensor([0.1, 0.2 * (1 + m), -0.2 * m]))
    assert not got.jaw_pose[:, 1:].any()
    assert all(torch.equal(getattr(got, name), getattr(motion, name)) for name in (*KEPT, "eyes_pose"))


def test_training_itself_is_not_clamped() -> None:
    seen = small_motion(n_expr=8, frames=6)
    got = clamped_to(seen, seen, seen.timesteps)
    assert torch.equal(got.expr, seen.expr) and torch.equal(got.jaw_pose, seen.jaw_pose)
