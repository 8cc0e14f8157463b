"""What captures and videos of the built-in subject are like where nothing else is asked for: for commands and functions."""

TIMESTEPS, TEST_TIMESTEPS, CAMERAS = 40, 8, 16
WIDTH, HEIGHT = 275, 401  # pixels
SUPERSAMPLE = 4  # samples per pixel along each axis: twice as many change a picture by 45 dB or better
SELFIE_SIZE, SELFIE_SECONDS, SELFIE_FPS = (400, 540), 30.0, 10
