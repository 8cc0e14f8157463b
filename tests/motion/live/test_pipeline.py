"""From observations to poses: order and distances in time, smoothing, neutral faces, limits, and a face that is lost."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.bench import example_avatar
from taichi_avatars.errors import UserError
from taichi_avatars.motion.face_map import ARKIT_NAMES, GAZE_SIDEWAYS, JAW_ALONE, JAW_JOINT, columns, face_map
from taichi_avatars.motion.live.buffer import LONGEST, JitterBuffer
from taichi_avatars.motion.live.face import LOST, Face, about, quat, rotvec, times
from taichi_avatars.motion.live.performer import FADING, PATIENCE, SETTLING, Performer
from taichi_avatars.motion.live.rig import FaceRig
from taichi_avatars.motion.live.setup import prepare
from taichi_avatars.motion.live.smoothing import OneEuro
from taichi_avatars.motion.retarget import seen_range


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return example_avatar(500)


@pytest.fixture(scope="module")
def rig(avatar: Avatar) -> FaceRig:
    assert avatar.head is not None
    return FaceRig(avatar, face_map(avatar.head))


# -- the buffer


def played(stamps: list[float], arrivals: list[float], every: float = 1 / 30) -> tuple[list[float], JitterBuffer, list[float]]:
    """What is shown of a ramp whose value is the time of sending, at regular moments; and how far behind it is."""
    buffer, shown, lags = JitterBuffer(), [], []
    packets = sorted(zip(arrivals, stamps, strict=True))
    now, end = packets[0][0], packets[-1][0]
    while now < end:
        while packets and packets[0][0] <= now:
            arrival, stamp = packets.pop(0)
            buffer.add(np.array([stamp]), stamp, arrival)
        if (sample := buffer.at(now)) is not None:
            shown.append(float(sample.row[0]))
            lags.append(sample.lag)
        now += every
    return shown, buffer, lags


def test_a_good_network_is_not_waited_for() -> None:
    stamps = [k / 60 for k in range(300)]
    shown, buffer, lags = played(stamps, [1000.0 + s for s in stamps])
    assert buffer.delay < 1e-9 and buffer.late == 0 and max(lags) < 1 / 60 + 1e-6
    assert (np.diff(shown) > 0).all()


def test_loss_and_delay_are_evened_out() -> None:
    chance = random.Random(3)
    stamps = [k / 60 for k in range(1200) if chance.random() > 0.2]
    shown, buffer, lags = played(stamps, [50.0 + s + chance.uniform(0.0, 0.08) for s in stamps])
    assert 0.06 < buffer.delay <= LONGEST
    settled = np.diff(shown[100:])
    assert (settled >= 0).all()  # never back in time
    assert abs(settled - 1 / 30).max() < 1 / 30  # and never a jump of more than one picture
    assert max(lags[100:]) < 0.15


def test_a_clock_that_is_set_anew_is_followed_and_a_senseless_one_left() -> None:
    stamps = [k / 60 for k in range(120)] + [5000 + k / 60 for k in range(120)] + [3 + k / 60 for k in range(120)]
    shown, buffer, _ = played(stamps, [k / 60 for k in range(360)])
    assert shown[-1] == pytest.approx(stamps[-1], abs=0.1) and buffer._trusted
    for bad in ([0.0] * 300, [k / 3 for k in range(300)], [-k / 60 for k in range(300)], [1e11 * (k % 7) for k in range(300)]):
        buffer = JitterBuffer()
        for k, stamp in enumerate(bad):
            buffer.add(np.array([float(k)]), stamp, k / 60)
            sample = buffer.at(k / 60)
        assert sample is not None and sample.row[0] > 295  # as they arrive


def test_duplicates_and_old_packets_do_no_harm() -> None:
    buffer = JitterBuffer()
    for stamp in (1.0, 1.1, 1.1, 1.2):
        buffer.add(np.array([stamp]), stamp, stamp)
    first = buffer.at(1.2)
    buffer.add(np.array([9.0]), 1.05, 1.21)
    second = buffer.at(1.22)
    assert first is not None and second is not None and first.row[0] == second.row[0] == 1.2 and buffer.late == 1


def test_a_flood_is_not_kept() -> None:
    buffer = JitterBuffer()
    for k in range(5000):
        buffer.add(np.zeros(1), k / 1000, k / 1000)
    assert len(buffer._held) <= 512 and len(buffer._offsets) <= 512


# -- smoothing


def test_smoothing_calms_noise_and_keeps_up() -> None:
    chance = np.random.default_rng(0)
    noisy, moving = OneEuro(1.0), OneEuro(1.0)
    still = np.array([noisy(0.01 * chance.standard_normal(1), k / 30)[0] for k in range(600)])
    assert still[60:].std() < 0.006
    ramp = [(k / 30, moving(np.array([2.0 * k / 30]), k / 30)[0]) for k in range(30)]  # a mouth that opens in half a second
    lag = ramp[-1][0] - ramp[-1][1] / 2.0
    assert 0.0 <= lag < 0.02
    off = OneEuro(0.0)
    assert off(np.array([0.3]), 0.0)[0] == 0.3 and off(np.array([0.9]), 0.01)[0] == 0.9
    again = OneEuro(1.0)
    assert [again(np.array([0.7]), k / 30)[0] for k in range(5)] == [0.7] * 5  # what rests is exact


# -- maps and rigs


def test_weights_move_what_has_their_name(avatar: Avatar, rig: FaceRig) -> None:
    assert avatar.head is not None and avatar.head.expression_names is not None
    place = columns(avatar.head.n_expr)
    for k, name in enumerate(ARKIT_NAMES):
        row = rig.row(Face(weights={name: (k + 1) / 64}))
        expr = row[place["expr"]]
        assert expr[avatar.head.expression_names.index(name)] == (k + 1) / 64 and np.count_nonzero(expr) == 1
    assert rig.row(Face(weights={"jawOpen": 1.0}))[place["jaw"]] == pytest.approx([JAW_JOINT, 0, 0])
    left = rig.row(Face(weights={"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0}))[place["eyes"]]
    assert left == pytest.approx([0, GAZE_SIDEWAYS, 0] * 2)
    eyes = rig.row(Face(eyes=(0.1, 0.2, 0, 0.1, 0.2, 0)))[place["eyes"]]
    assert eyes == pytest.approx([0.1, 0.2, 0] * 2)
    assert not rig.row(Face(weights={"grin": 1.0})).any()
    row = rig.row(Face(flame={"expr": [0.5], "jaw": [0.2, 0, 0], "translation": [0, 0, 1]}))
    assert row[0] == 0.5 and row[place["jaw"]][0] == 0.2 and row[place["translation"]][2] == 1 and row.sum() == 1.7


def test_turns_are_shared_limited_and_seen_from_the_neutral_one(rig: FaceRig, avatar: Avatar) -> None:
    assert avatar.head is not None
    place = columns(avatar.head.n_expr)
    neutral = rig.row(Face(head=rotvec(about("x", 0.4)), weights={"browInnerUp": 0.3}))
    now = rig.row(Face(head=rotvec(times(about("x", 0.4), about("y", 0.1))), weights={"browInnerUp": 0.5, "jawOpen": 0.2}))
    out = rig.finished(now, neutral, weights=True)
    assert out[place["rotation"]] + out[place["neck"]] == pytest.approx([0, 0.1, 0], abs=2e-3)
    names = avatar.head.expression_names or []
    assert out[names.index("browInnerUp")] == pytest.approx(0.2) and out[names.index("jawOpen")] == pytest.approx(0.2)
    assert rig.finished(-now, None, weights=True)[place["expr"]].min() == 0.0
    wild = rig.finished(rig.row(Face(head=(0.0, 3.0, 0.0))), None, weights=True)
    assert np.linalg.norm(wild[place["rotation"]]) < 0.31


def test_limits_of_training_are_kept(avatar: Avatar) -> None:
    assert avatar.head is not None and avatar.sequence is not None
    seen = seen_range(avatar.sequence, avatar.sequence.timesteps)
    limited = FaceRig(avatar, face_map(avatar.head), seen)
    out = limited.finished(limited.row(Face(weights=dict.fromkeys(ARKIT_NAMES, 1.0))), None, weights=True)
    assert (out[: avatar.head.n_expr] <= seen.expr[1].numpy() + 1e-6).all() and out[: avatar.head.n_expr].max() > 0.1


def test_a_neutral_face_stands_where_the_avatar_does(avatar: Avatar, rig: FaceRig) -> None:
    from taichi_avatars.avatar.place import place

    where = place(avatar)
    vertices = avatar.mesh(flame=rig.pose(rig.placed(np.zeros(rig.size)))).vertices @ where.rotation
    middle = 0.5 * (vertices.amin(0) + vertices.amax(0))
    assert middle.tolist() == pytest.approx((where.center @ where.rotation).tolist(), abs=1e-4)


def test_a_head_without_names_is_moved_as_far_as_it_goes(avatar: Avatar, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = avatar.head
    assert head is not None and head.expression_names is not None
    names = list(head.expression_names)
    monkeypatch.setattr(head, "expression_names", None)
    place = columns(head.n_expr)
    bare = face_map(head)
    assert bare.remark is not None and "--blendshapes" in bare.remark
    row = FaceRig(avatar, bare).row(Face(weights={"jawOpen": 0.5, "mouthSmileLeft": 1.0}))
    assert row[place["jaw"]][0] == pytest.approx(0.5 * JAW_ALONE) and not row[place["expr"]].any()

    coefficients = np.random.default_rng(0).random((2, head.n_expr)).astype(np.float32)
    np.savez(tmp_path / "map.npz", names=["jawOpen", "mouthSmileLeft"], expr=coefficients)
    mapped = FaceRig(avatar, face_map(head, tmp_path / "map.npz")).row(Face(weights={"mouthSmileLeft": 1.0}))
    assert mapped[place["expr"]] == pytest.approx(coefficients[1])

    # As offsets: what the head's own components are is found again.
    smile = names.index("mouthSmileLeft")
    offsets = head.rig.basis.values.permute(1, 0, 2).flatten(1)[smile, : 3 * head.num_vertices].reshape(1, -1, 3).numpy()
    np.savez(tmp_path / "offsets.npz", names=["mouthSmileLeft"], offsets=offsets)
    fitted = face_map(head, tmp_path / "offsets.npz").matrix[list(ARKIT_NAMES).index("mouthSmileLeft"), : head.n_expr]
    assert fitted[smile] > 0.8 and np.abs(np.delete(fitted, smile)).max() < 0.2
    for arrays, words in (
        ({"expr": coefficients}, "want names"),
        ({"names": ["jawOpen"], "expr": coefficients}, "expr has shape"),
        ({"names": ["grin"], "expr": coefficients[:1]}, "none of its names"),
        ({"names": ["jawOpen"], "offsets": np.zeros((1, 3, 3))}, "offsets has shape"),
    ):
        np.savez(tmp_path / "bad.npz", **arrays)  # pyright: ignore[reportArgumentType]
        with pytest.raises(UserError, match=words):
            face_map(head, tmp_path / "bad.npz")


def test_a_scene_without_a_head_cannot_be_moved() -> None:
    gaussians = replace(example_avatar(10).gaussians, binding=None)
    with pytest.raises(UserError, match="static scene"):
        prepare(Avatar(gaussians), "livelink:0")


# -- the performer


def performed(performer: Performer, faces: list[tuple[float, Face]], until: float) -> list:
    """Poses at thirty moments a second."""
    faces, out, now = list(faces), [], 0.0
    while now < until:
        while faces and faces[0][0] <= now:
            performer.take(faces[0][1], faces[0][0], False)
            faces.pop(0)
        out.append((now, performer.pose(now)))
        now += 1 / 30
    return out


def test_a_lost_face_fades_and_comes_back(rig: FaceRig) -> None:
    smiling = Face(weights={"mouthSmileLeft": 0.8})
    for gone in ([], [(1.0 + k / 30, LOST) for k in range(90)]):  # silence, or packets without a face
        faces = [(k / 30, smiling) for k in range(30)] + gone + [(4.0 + k / 30, smiling) for k in range(30)]
        poses = performed(Performer(rig, smoothing=0.0), faces, 5.0)
        amount = {round(now, 2): pose.row[: rig.size - 18].max() for now, pose in poses if pose is not None}
        assert amount[0.5] == pytest.approx(0.8) and amount[1.3] == pytest.approx(0.8)
        middle = amount[round(1.0 + PATIENCE + 0.5 * FADING, 2)]
        assert 0.1 < middle < 0.7
        assert amount[3.5] == 0.0 and amount[4.9] == pytest.approx(0.8)


def test_neutral_faces_by_key_and_by_time(rig: FaceRig) -> None:
    resting = Face(weights={"browInnerUp": 0.4}, head=(0.3, 0.0, 0.0))
    performer = Performer(rig)
    assert not performer.calibrate()
    faces = [(k / 30, resting) for k in range(90)]
    performed(performer, faces, 2.0)
    assert performer.pose(2.0).row[: rig.size - 18].max() == pytest.approx(0.4)  # pyright: ignore[reportOptionalMemberAccess]
    assert performer.calibrate() and performer.calibrated
    assert performer.pose(2.01).row[: rig.size - 18].max() == pytest.approx(0.0, abs=1e-6)  # pyright: ignore[reportOptionalMemberAccess]
    performer.forget_neutral()
    assert performer.pose(2.02).row[: rig.size - 18].max() == pytest.approx(0.4)  # pyright: ignore[reportOptionalMemberAccess]
    poses = performed(Performer(rig, relative=True), faces, SETTLING + 0.5)
    assert poses[-1][1].row[: rig.size - 18].max() == pytest.approx(0.0, abs=1e-6)


def test_another_sender_starts_anew(rig: FaceRig) -> None:
    performer = Performer(rig, smoothing=0.0)
    performer.take(Face(time=1000.0, weights={"jawOpen": 1.0}), 1.0, True)
    assert performer.pose(1.0) is not None and performer.calibrate()
    performer.take(Face(time=3.0, weights={"tongueOut": 0.5}), 1.1, True)
    assert not performer.calibrated
    pose = performer.pose(1.2)
    assert pose is not None and pose.row[: rig.size - 18].max() > 0.2


def test_quaternions() -> None:
    for vector in ((0.1, -0.2, 0.3), (0.0, 0.0, 0.0), (3.0, 0.1, 0.0)):
        assert rotvec(quat(*vector)) == pytest.approx(vector, abs=1e-9)
    assert rotvec(quat(0.0, 4.0, 0.0)) == pytest.approx((0.0, 4.0 - 2 * math.pi, 0.0), abs=1e-9)
    assert torch.isfinite(torch.tensor(rotvec(times(about("x", 1e-9), about("y", 0.0))))).all()
