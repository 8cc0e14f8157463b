"""What captures and videos of the built-in subject are like where nothing else is asked for: for commands and functions."""

TIMESTEPS, TEST_TIMESTEPS, CAMERAS = 40, 8, 16
WIDTH, HEIGHT = 275, 401  # pixels
SUPERSAMPLE = 3  # samples per pixel along each axis
SELFIE_SIZE, SELFIE_SECONDS, SELFIE_FPS = (400, 540), 30.0, 10
