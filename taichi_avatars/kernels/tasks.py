"""How work is divided among CPU threads.

Taichi gives a thread at least 512 iterations of a parallel loop at a time, whatever its `block_dim`: a loop over a few large
pieces of work would run on one thread. Such a loop is written with a stride: only every STRIDE-th iteration has work.

    for step in range(pieces * STRIDE):
        if step % STRIDE != 0:
            continue
        piece = step // STRIDE
"""

TASK = 512  # stride of loops in which every iteration is a separate task
TILE_STRIDE = 32  # of loops over tiles: 16 tiles at a time, so that the face in the middle is shared between threads
