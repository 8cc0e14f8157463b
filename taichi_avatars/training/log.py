"""The log of a run: one JSON object per line, and TensorBoard's files where TensorBoard is installed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from taichi_avatars.files.atomic import writing
from taichi_avatars.training.events import Evaluated, Event, Progress, Saved

NAME = "log.jsonl"


class RunLog:
    """Writes every event of a run into its model folder.

    Args:
        resume: add to the log of the run that continues; else a new one takes its place.
    """

    def __init__(self, model: Path, *, resume: bool = False) -> None:
        self._path = model / NAME
        with writing(self._path):
            model.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a" if resume else "w", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(str(model))

    def __call__(self, event: Event) -> None:
        values = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(event).items()}
        with writing(self._path):
            self._file.write(json.dumps({"event": type(event).__name__.lower(), **values}) + "\n")
            self._file.flush()
        if self._board is None:
            return
        if isinstance(event, Progress):
            for name in ("loss", "psnr", "gaussians"):
                self._board.add_scalar(f"train/{name}", getattr(event, name), event.iteration)
        elif isinstance(event, Evaluated):
            for name in ("psnr", "ssim"):
                self._board.add_scalar(f"{event.split}/{name}", getattr(event, name), event.iteration)
        elif isinstance(event, Saved):
            self._board.flush()

    def close(self) -> None:
        with writing(self._path):
            self._file.close()
        if self._board is not None:
            self._board.close()
