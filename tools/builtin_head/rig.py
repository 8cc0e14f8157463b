"""Five joints from MakeHuman's face rig: skinning weights and joint regressor."""

from __future__ import annotations

import numpy as np
from identity import Identity
from source import Source

JOINTS = ("root", "neck", "jaw", "left eye", "right eye")
PARENTS = (-1, 0, 1, 1, 1)
# The bone whose head is the joint.
BONE_OF_JOINT = ("neck01", "neck03", "jaw", "eye.L", "eye.R")
VERTICES = 64  # that a joint is regressed from
DAMPING = 0.0015  # metres: what a unit weight on one vertex costs against an error of the joint


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


def joint_regressor(source: Source, identity: Identity, units: np.ndarray, regions: dict[str, np.ndarray]) -> np.ndarray:
    """Regressor (5, V), rows with sum 1: the rig's joints from few vertices, whatever the identity.

    Eyes are the mean of their eyeballs. The others use only vertices that no expression moves, so that a talking face
    does not move its own joints; and hair, which a static offset lifts off the scalp, does not move them either.
    """
    regressor = np.zeros((5, len(identity.mean)))
    for joint, eye in ((3, "eye_left"), (4, "eye_right")):
        regressor[joint, regions[eye]] = 1 / len(regions[eye])
    still = np.setdiff1d(regions["skin"], np.flatnonzero(np.abs(units).max((0, 2)) > 1e-6))
    hair = hair_offsets(identity.mean, regions["scalp"])
    for joint in range(3):
        mean, directions = rig_joint(source, identity, joint)
        # Rows in metres: where the mean's joint is, how each component moves it, how hair does; and that the sum is 1.
        rows = np.concatenate([identity.mean[None] - mean, identity.directions, hair])[:, still]
        rows = np.concatenate([rows.transpose(0, 2, 1).reshape(-1, len(still)), np.ones((1, len(still)))])
        wanted = np.concatenate([np.zeros(3), directions.ravel(), np.zeros(3 * len(hair)), [1.0]])
        chosen, weights = matching_pursuit(rows, wanted)
        regressor[joint, still[chosen]] = weights / weights.sum()
    return regressor


def hair_offsets(vertices: np.ndarray, scalp: np.ndarray) -> np.ndarray:
    """Offsets (3, V, 3) of 2 cm outwards on the scalp: everywhere, growing towards the top, growing towards the front."""
    outwards = np.zeros_like(vertices)
    outwards[scalp] = vertices[scalp] - vertices[scalp].mean(0)
    outwards[scalp] *= 0.02 / np.linalg.norm(outwards[scalp], axis=1, keepdims=True)
    low, high = vertices[scalp].min(0), vertices[scalp].max(0)
    _, up, front = ((vertices - low) / (high - low)).T
    return np.stack([outwards, outwards * up[:, None], outwards * front[:, None]])


def matching_pursuit(a: np.ndarray, b: np.ndarray) -> tuple[list[int], np.ndarray]:
    """a x = b with few columns: their ids and weights. No vertex has much to say, so noise does not shake a joint."""
    chosen: list[int] = []
    x = np.zeros(0)
    for _ in range(VERTICES):
        relevance = np.abs(a.T @ (b - a[:, chosen] @ x))
        relevance[chosen] = -1
        chosen.append(int(relevance.argmax()))
        few = a[:, chosen]
        x = np.linalg.solve(few.T @ few + DAMPING**2 * np.eye(len(chosen)), few.T @ b)
    return chosen, x


def rig_joint(source: Source, identity: Identity, joint: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the rig has a joint: mean (3,) and change per identity component (C, 3)."""
    bone = source.bone_names.index(BONE_OF_JOINT[joint])
    mean, directions = identity.bones_mean[bone].copy(), identity.bones_directions[:, bone].copy()
    if joint < 3:  # MakeHuman's markers of the spine are up to 1.4 mm beside the middle
        mean[0], directions[:, 0] = 0, 0
    return mean, directions
