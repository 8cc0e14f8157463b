from taichi_avatars import frontend

frontend.lighten()  # before any kernel is decorated
