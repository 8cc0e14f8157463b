"""Sizes shared by the skinning kernels and their caller, in a separate module so that reading a head does not load Taichi."""

LANES = 16  # as in lanes.py
REGRESSED = 5  # joints of a head whose joints are regressed from its vertices: FLAME's
MOST_JOINTS = 8  # their parents fit into one packed number
CHUNKS = 32  # partial sums; a fixed number, so that results do not depend on the number of threads
CHUNKS_GPU = 256  # each is a thread there


class JointState:
    """Columns of a joint in a pose state.

    LOCAL, GLOBAL: rotations, 9, row-major.  OFFSET: with GLOBAL it maps a point of the unposed head.  POSED: the joint itself.
    """

    LOCAL, GLOBAL, OFFSET, POSED = 0, 9, 18, 21
    SIZE = 24


def partial_size(joints: int) -> int:
    """Sums of a chunk: 12 for each joint, 3 for the translation, and one unused."""
    return 12 * joints + 4


def tree_of(parents: tuple[int, ...]) -> int:
    """The parents of up to 8 joints as one number, 4 bits each; the root, the first joint, is ignored.

    A scalar argument costs less than an array, both to pass and to read.
    """
    if len(parents) > MOST_JOINTS or any(not 0 <= parent < j for j, parent in enumerate(parents) if j):
        raise ValueError(f"parents {parents}: want at most {MOST_JOINTS}, each before its joint")
    return sum(parent << (4 * j) for j, parent in enumerate(parents) if j)
