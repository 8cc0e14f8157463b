"""Everything at once that captures of this field have been seen with: a UNION set whose paths lead into other folders and
whose timesteps continue and do not start at 0, pixels that are not square, an off-centre principal point, masks, 50 expression
coefficients, no static offset, a test split that is empty and a val split that is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

from scene.tiny_capture import read_split, write_split, write_tiny_capture

FL_X, FL_Y, CX, CY_FROM_BOTTOM = 80.0, 90.0, 10.0, 17.5
TIMESTEPS = (3, 4, 103, 104)


def write_union(folder: Path) -> Path:
    """Writes `SMILE`, `TALK` and `UNION` into `folder`; returns the last. Two timesteps of each, three cameras."""
    union = folder / "UNION"
    union.mkdir(parents=True)
    frames = []
    for number, name in enumerate(("SMILE", "TALK")):
        sequence = write_tiny_capture(folder / name, timesteps=(3, 4, 9), masks=True, n_expr=50)
        shutil.copy(sequence / "canonical_flame_param.npz", union)
        for frame in [*read_split(sequence, "train")["frames"], *read_split(sequence, "val")["frames"]]:
            for key in ("file_path", "flame_param_path", "fg_mask_path"):
                frame[key] = f"../{name}/{frame[key]}"
            frame["timestep_index_original"] = frame["timestep_index"]
            frame["timestep_index"] += 100 * number
            frame.update(fl_x=FL_X, fl_y=FL_Y, cx=CX, cy=CY_FROM_BOTTOM, timestep_id=f"{name}_{frame['timestep_index']}")
            frames.append(frame)
    write_split(union, "train", {"frames": frames, "timestep_indices": list(TIMESTEPS), "camera_indices": [0, 1, 2]})
    write_split(union, "test", {"frames": []})
    return union
