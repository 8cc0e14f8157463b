"""Sizes that the skinning kernels and their caller agree on; apart from both, so that reading a head does not load Taichi."""

LANES = 16  # as in lanes.py
REGRESSED = 5  # joints of a head whose joints follow from its vertices: FLAME's
MOST_JOINTS = 8  # whose parents fit into the number that says which they are
CHUNKS = 32  # partial sums; a fixed number, so that results do not depend on the number of threads
CHUNKS_GPU = 256  # there each is a thread


class JointState:
    """A joint in a pose state, whose columns these are.

    LOCAL, GLOBAL: rotations, 9 by rows.  OFFSET: with GLOBAL it carries a point of the unposed head.  POSED: the joint itself.
    """

    LOCAL, GLOBAL, OFFSET, POSED = 0, 9, 18, 21
    SIZE = 24


def partial_size(joints: int) -> int:
    """Sums of a chunk: 12 for each joint, 3 for the translation, and one to spare."""
    return 12 * joints + 4


def tree_of(parents: tuple[int, ...]) -> int:
    """The parents of up to 8 joints as one number, 4 bits each; that of the root, the first joint, does not count.

    A kernel's argument costs less than an array, and so does reading it.
    """
    if len(parents) > MOST_JOINTS or any(not 0 <= parent < j for j, parent in enumerate(parents) if j):
        raise ValueError(f"parents {parents}: want at most {MOST_JOINTS}, each before its joint")
    return sum(parent << (4 * j) for j, parent in enumerate(parents) if j)
