"""Five joints from MakeHuman's face rig: skinning weights and joint regressor."""

from __future__ import annotations

import numpy as np
from identity import Identity
from source import Source

JOINTS = ("root", "neck", "jaw", "left eye", "right eye")
PARENTS = (-1, 0, 1, 1, 1)
# The bone whose head is the joint.
BONE_OF_JOINT = ("neck01", "neck03", "jaw", "eye.L", "eye.R")
SPREAD = 0.005  # metres: what a unit weight on one vertex costs against an error of the joint


def joint_of_bone(source: Source) -> np.ndarray:
    """Which of the five joints each bone becomes (B,)."""
    starts = {"neck03": 1, "jaw": 2, "eye.L": 3, "eye.R": 4}
    joints = np.zeros(len(source.bone_names), int)
    for bone, (name, parent) in enumerate(zip(source.bone_names, source.bone_parents, strict=True)):
        joints[bone] = starts.get(name, joints[parent] if parent >= 0 else 0)
    return joints


def skinning_weights(source: Source, parts: dict[str, np.ndarray]) -> np.ndarray:
    """Weights (V, 5); rows sum to 1."""
    weights = np.zeros((len(source.vertices), 5))
    np.add.at(weights.T, joint_of_bone(source), source.bone_weights.T)
    # The rig lets a few lid vertices lean on the eye, and a few eyeball vertices on the lids: nobody's do.
    weights[:, 1] += weights[:, 3] + weights[:, 4]
    weights[:, 3:] = 0
    for part, joint in (("teeth_upper", 1), ("teeth_lower", 2), ("tongue", 2), ("eye_left", 3), ("eye_right", 4)):
        weights[parts[part]] = np.eye(5)[joint]
    return weights / weights.sum(1, keepdims=True)


def joint_regressor(source: Source, identity: Identity, units: np.ndarray, parts: dict[str, np.ndarray]) -> np.ndarray:
    """Regressor (5, V), rows with sum 1: the rig's joints from few vertices, whatever the identity.

    Eyes are the mean of their eyeballs. The others use only vertices that no expression moves, so that a talking face
    does not move its own joints. The root lies below the cut of the neck, outside the mesh: it needs negative weights.
    """
    regressor = np.zeros((5, len(identity.mean)))
    regressor[3, parts["eye_left"]] = 1 / len(parts["eye_left"])
    regressor[4, parts["eye_right"]] = 1 / len(parts["eye_right"])
    still = np.setdiff1d(parts["skin"], np.flatnonzero(np.abs(units).max((0, 2)) > 1e-6))
    for joint in range(3):
        mean, directions = rig_joint(source, identity, joint)
        near = np.argsort(np.linalg.norm(identity.mean[still] - mean, axis=1))
        chosen = still[near[:: max(1, len(near) // 300)]]
        # In metres: the mean's position counts as much as one standard deviation of each component.
        columns = np.concatenate([identity.mean[None, chosen] - mean, identity.directions[:, chosen]])
        columns = columns.transpose(0, 2, 1).reshape(-1, len(chosen))
        wanted = np.concatenate([np.zeros(3), directions.ravel()])
        # The sum is 1, and no vertex has much to say: noise on single vertices must not shake a joint.
        columns = np.concatenate([columns, SPREAD * np.eye(len(chosen)), np.ones((1, len(chosen)))])
        wanted = np.concatenate([wanted, np.zeros(len(chosen)), [1.0]])
        if joint == 0:
            both = nonnegative_least_squares(np.concatenate([columns, -columns], 1), wanted)
            weights = both[: len(chosen)] - both[len(chosen) :]
        else:
            weights = nonnegative_least_squares(columns, wanted)
        weights[np.abs(weights) < 1e-3] = 0
        regressor[joint, chosen] = weights / weights.sum()
    return regressor


def rig_joint(source: Source, identity: Identity, joint: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the rig has a joint: mean (3,) and change per identity component (C, 3)."""
    bone = source.bone_names.index(BONE_OF_JOINT[joint])
    mean, directions = identity.bones_mean[bone].copy(), identity.bones_directions[:, bone].copy()
    if joint < 3:  # MakeHuman's markers of the spine are up to 1.4 mm beside the middle
        mean[0], directions[:, 0] = 0, 0
    return mean, directions


def nonnegative_least_squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """x >= 0 with the least |a x - b| (Lawson and Hanson, 1974, chapter 23)."""
    x = np.zeros(a.shape[1])
    active = np.zeros(a.shape[1], bool)
    for _ in range(3 * a.shape[1]):
        gradient = np.where(active, -np.inf, a.T @ (b - a @ x))
        if gradient.max() <= 1e-10:
            break
        active[gradient.argmax()] = True
        while True:
            trial = np.zeros_like(x)
            trial[active] = np.linalg.lstsq(a[:, active], b, rcond=None)[0]
            if trial[active].min() > 0:
                x = trial
                break
            falling = active & (trial <= 0)
            step = np.min(x[falling] / (x[falling] - trial[falling]))
            x = x + step * (trial - x)
            active &= x > 1e-12
    return x
