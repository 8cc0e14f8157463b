from taichi_avatars.kernels import frontend

frontend.lighten()  # before any kernel is decorated
