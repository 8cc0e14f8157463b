"""The built-in subject filmed by one hand-held camera, as people film themselves: what it does and what is seen.

The first nine tenths show what `docs/filming.md` asks for: turns to both sides, up and down, vowels, expressions, closed eyes,
talk. The last tenth, talk again, is held out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.ops.pose import look_at_pose
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.synthetic.motion import (
    SYLLABLES,
    Weights,
    add_curve,
    both,
    bump,
    drift,
    gaze_angles,
    played,
    require_units,
)
from taichi_avatars.synthetic.renderer import Photo, Subject, make_subject, photograph, pose, resting_vertices
from taichi_avatars.synthetic.room import WALL_Z, Room, furnish

HELD_OUT = 0.1  # the last part of the film
ARM = 0.52  # metres from the camera to the head at a focal length of once the longer side
BELOW = 0.035  # metres: how much lower than the middle of the head the camera aims, so that shoulders are seen
SIDE, UP = math.radians(45), math.radians(20)
# How much of a turn the shoulders make; the neck does the rest.
ROOT_SHARE = np.array([0.12, 0.25, 0.2])
VOWELS: list[Weights] = [{name: 1.5 * weight for name, weight in syllable.items()} for syllable in SYLLABLES[:4]]
EXPRESSIONS: list[Weights] = [
    both(mouthSmile=0.85, cheekSquint=0.5, eyeSquint=0.3),
    {"jawOpen": 0.85} | both(mouthStretch=0.2),
    both(eyeBlink=1.0),
    {"browInnerUp": 0.7} | both(browOuterUp=0.7, eyeWide=0.5),
    {"mouthPucker": 0.8},
    both(browDown=0.8, eyeSquint=0.4, noseSneer=0.3),
    both(mouthSmile=0.75, mouthUpperUp=0.35, mouthLowerDown=0.3) | {"jawOpen": 0.12},
    both(mouthFrown=0.6, mouthPress=0.2) | {"mouthShrugLower": 0.4},
]
NOISE = 1.2 / 255  # standard deviation of the camera's


@dataclass(frozen=True)
class Frame:
    """One frame of the film and what is true of it.

    Attributes:
        timestep: from 0.
        exposed: (3,H,W) in [0,1], as the camera's chip saw it.
        picture: the person without the room, with the frame's exposure but without noise.
        camera: where it was taken from.
    """

    timestep: int
    exposed: Tensor
    picture: Photo
    camera: Camera


@dataclass(frozen=True)
class Selfie:
    """Somebody who can be filmed.

    Attributes:
        motion: what happens, a row for each frame.
        cameras: of each frame.
        exposure: (T,3) factors on the display values of red, green and blue.
        fps: frames per second.
        held_out: the first frame of the last tenth.
    """

    subject: Subject
    room: Room
    motion: FlameSequence
    cameras: list[Camera]
    exposure: Tensor
    fps: float
    held_out: int

    def frames(self, supersample: int) -> Iterator[Frame]:
        """Every frame in the order of time, filmed as it is asked for."""
        head, garment = self.subject.head, self.subject.garment
        for row, camera in enumerate(self.cameras):
            vertices = self.motion.mesh(head, row).vertices
            if garment is not None:
                worn = garment.moved(self.motion.rotation[row], self.motion.translation[row])
                vertices = torch.cat([vertices, worn])
            picture = photograph(self.subject, pose(self.subject, vertices), camera, supersample)
            gain = self.exposure[row][:, None, None]
            seen = gain * (picture.rgb + (1 - picture.alpha) * self.room.picture(camera))
            random = np.random.default_rng([self.subject.who.seed, 90, row])
            noise = NOISE * torch.from_numpy(random.standard_normal(seen.shape, dtype=np.float32))
            picture = replace(picture, rgb=gain * picture.rgb, head_rgb=gain * picture.head_rgb)
            yield Frame(self.motion.timesteps[row], (seen + noise).clamp(0, 1), picture, camera)


def stage_selfie(seed: int, width: int, height: int, seconds: float, fps: float) -> Selfie:
    """The person, the room, the performance and the path of the camera that go with a seed.

    Raises:
        UserError: for a film of no frame.
    """
    head, random = FlameModel.builtin(), np.random.default_rng([seed, 80])
    focal = max(width, height) * float(random.uniform(0.92, 1.18))
    distance = ARM * focal / max(width, height)
    subject = make_subject(head, seed, distance / focal, dressed=True)
    resting = resting_vertices(head, subject.who)
    middle = 0.5 * (resting.amin(0) + resting.amax(0))
    time = np.arange(max(1, round(seconds * fps))) / fps
    motion = selfie_performance(head, time, seconds, seed, subject.who.shape)
    cameras = hand_held(time, middle, distance, focal, (width, height), random)
    common, tint = drift(time, random, 20.0, 5.0), [drift(time, random, 25.0, 10.0) for _ in range(2)]
    gain = 1 + np.stack([0.02 * common + 0.006 * tint[0], 0.02 * common, 0.02 * common + 0.006 * tint[1]], 1)
    room = furnish(head, seed, (distance - WALL_Z) / focal)
    held_out = len(time) - round(HELD_OUT * len(time))
    return Selfie(subject, room, motion, cameras, torch.from_numpy(gain).float(), fps, held_out)


def hand_held(
    time: np.ndarray, middle: Tensor, distance: float, focal: float, size: tuple[int, int], random: np.random.Generator
) -> list[Camera]:
    """A camera at arm's length that sways, trembles and never aims quite right."""

    def sway(slow: float, quick: float) -> np.ndarray:
        return slow * drift(time, random, 8.0, 2.0) + quick * drift(time, random, 0.9, 0.3)

    place = np.stack([sway(0.012, 0.0008), 0.02 + sway(0.010, 0.0008), distance + sway(0.014, 0.0006)], 1)
    aim = np.stack([sway(0.008, 0.0006), -BELOW + sway(0.008, 0.0006), 0 * time], 1)
    roll = sway(0.018, 0.0015)
    center = middle.double().numpy()
    cameras = []
    for k in range(len(time)):
        world_to_camera = look_at_pose(torch.from_numpy(center + place[k]), torch.from_numpy(center + aim[k]))
        c, s = math.cos(roll[k]), math.sin(roll[k])
        turn = torch.tensor([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
        pose_ = (turn @ world_to_camera).float()
        cameras.append(Camera.from_opencv(pose_, focal, focal, 0.5 * size[0], 0.5 * size[1], *size, near=0.05))
    return cameras


def selfie_performance(head: FlameModel, time: np.ndarray, seconds: float, seed: int, shape: Tensor) -> FlameSequence:
    """What somebody does who films an avatar of themselves, at moments `time` (T,) of `seconds`."""
    require_units(head)
    random = np.random.default_rng([seed, 81])
    end = (1 - HELD_OUT) * seconds
    weights: dict[str, np.ndarray] = {}
    add_curve(weights, both(mouthSmile=0.08), np.ones_like(time))
    # Parts of the performance as shares of the time before what is held out.
    talk(weights, time, 0.0, 0.10 * end, random)
    turns(weights, time, 0.10 * end, 0.46 * end, random)
    one_by_one(weights, time, 0.48 * end, 0.60 * end, VOWELS, random)
    one_by_one(weights, time, 0.60 * end, 0.86 * end, EXPRESSIONS, random)
    talk(weights, time, 0.86 * end, seconds, random)
    blinks(weights, time, seconds, random)
    smile = bump(time, end + 0.35 * (seconds - end), 0.3, 0.25 * (seconds - end), 0.4)
    add_curve(weights, both(mouthSmile=0.5, cheekSquint=0.3), smile)
    weights = {name: np.clip(curve, 0.0, 1.0) for name, curve in weights.items()}

    turn = head_turn(time, end, seconds, random)
    gaze = 0.6 * gaze_angles(time, seconds, random)
    # Mostly they look into the camera, also with the head turned away.
    gaze[:, 0] = np.clip(gaze[:, 0] - 0.5 * turn[:, 1], -0.35, 0.35)
    gaze[:, 1] = np.clip(gaze[:, 1] - 0.5 * turn[:, 0], -0.2, 0.2)

    def curves(sizes: list[float], slowest: float, fastest: float) -> np.ndarray:
        return np.stack([size * drift(time, random, slowest, fastest) for size in sizes], 1)

    poses = {
        "jaw_pose": curves([0.0, 0.010, 0.005], 3.0, 0.6),
        "rotation": ROOT_SHARE * turn + curves([0.012, 0.02, 0.012], 7.0, 2.0),
        "neck_pose": (1 - ROOT_SHARE) * turn + curves([0.015, 0.02, 0.012], 4.0, 1.2),
        "translation": curves([0.005, 0.003, 0.005], 6.0, 2.0),
    }
    return played(head, weights, gaze, poses, shape)


def head_turn(time: np.ndarray, end: float, seconds: float, random: np.random.Generator) -> np.ndarray:
    """Pitch downwards, yaw to the person's left, roll (T,3), radians: turns first, then what goes with talk."""
    turn, first = np.zeros((len(time), 3)), float(random.choice([-1.0, 1.0]))
    slow = 0.055 * end
    for axis, angle, start in (
        (1, first * SIDE, 0.10),
        (1, -first * SIDE, 0.22),
        (0, -UP, 0.34),
        (0, UP, 0.41),
    ):
        quick = 0.75 if axis == 0 else 1.0
        curve = bump(time, start * end, quick * slow, 0.015 * end, quick * slow)
        turn[:, axis] += angle * float(random.uniform(0.94, 1.03)) * curve
    turn[:, 2] += 0.12 * (bump(time, 0.52 * end, 0.03 * end, 0.01 * end, 0.03 * end) - bump(time, 0.66 * end, 1.0, 0.5, 1.0))
    lively = bump(time, 0.84 * end, 0.8, seconds, 1.0)
    for axis, size in enumerate((0.07, 0.17, 0.05)):
        turn[:, axis] += lively * size * drift(time, random, 5.0, 1.6)
    return turn


def talk(weights: dict[str, np.ndarray], time: np.ndarray, start: float, end: float, random: np.random.Generator) -> None:
    """Adds words of two to five syllables with pauses between them."""
    moment = start
    while moment < end:
        for _ in range(random.integers(2, 6)):
            length = random.uniform(0.16, 0.30)
            curve = random.uniform(0.6, 1.1) * bump(time, moment, 0.5 * length, 0.03, 0.6 * length)
            add_curve(weights, SYLLABLES[random.integers(len(SYLLABLES))], curve)
            moment += length
        moment += random.uniform(0.2, 0.6)


def turns(weights: dict[str, np.ndarray], time: np.ndarray, start: float, end: float, random: np.random.Generator) -> None:
    """Adds what the face does while the head turns: now a word, now a smile."""
    moment = start
    while moment < end:
        stop = min(moment + random.uniform(0.6, 1.2), end)
        if random.random() < 0.5:
            talk(weights, time, moment, stop, random)
        else:
            add_curve(weights, both(mouthSmile=0.4, cheekSquint=0.2), bump(time, moment, 0.3, stop - moment - 0.3, 0.4))
        moment = stop + random.uniform(0.3, 0.9)


def one_by_one(
    weights: dict[str, np.ndarray], time: np.ndarray, start: float, end: float, what: list[Weights], random: np.random.Generator
) -> None:
    """Adds each of `what` in a random order, held for a while."""
    each = (end - start) / len(what)
    for place, index in enumerate(random.permutation(len(what))):
        curve = random.uniform(0.85, 1.1) * bump(time, start + place * each, 0.3 * each, 0.3 * each, 0.3 * each)
        add_curve(weights, what[index], curve)


def blinks(weights: dict[str, np.ndarray], time: np.ndarray, end: float, random: np.random.Generator) -> None:
    moment = random.uniform(0.5, 1.5)
    while moment < end:
        add_curve(weights, both(eyeBlink=1.0), bump(time, moment, 0.09, 0.05, 0.16))
        moment += random.uniform(1.6, 4.0)
