"""Profiles of a training step or a frame: stages, kernels, and the machine's peak rates."""
