"""`python -m taichi_avatars` is the same as the console script `taichi-avatars`."""

from taichi_avatars.cli import main

main()
