"""Sizes that the skinning kernels and their caller agree on; apart from both, so that reading a head does not load Taichi."""

LANES = 16  # as in lanes.py
JOINTS = 5
STATE = 24  # numbers per joint in a pose state
CHUNKS = 32  # partial sums; a fixed number, so that results do not depend on the number of threads
CHUNKS_GPU = 256  # there each is a thread
PARTIAL = 64  # sums of a chunk: 12 for each joint, then 3 for the translation
