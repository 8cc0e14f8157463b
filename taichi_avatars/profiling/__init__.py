"""Where the time of a training step or a frame goes: stages, kernels, and the machine's own limits."""
