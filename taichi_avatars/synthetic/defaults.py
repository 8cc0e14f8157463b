"""What a capture of the built-in subject is like where nothing else is asked for; `synth` and `write_capture` share it."""

TIMESTEPS, TEST_TIMESTEPS, CAMERAS = 40, 8, 16
WIDTH, HEIGHT = 275, 401  # pixels
SUPERSAMPLE = 3  # samples per pixel along each axis
