"""Exports every avatar below a folder for other viewers: a .splat of the neutral face and the mesh beside it.

python examples/batch_export.py output --out output/examples/exports
"""

import argparse
from pathlib import Path

import taichi_avatars as ta
from taichi_avatars.avatar.model_folder import load_model
from taichi_avatars.export import Choice, export

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path, help="is searched for model folders")
parser.add_argument("--out", type=Path, default=Path("output/examples/exports"))
options = parser.parse_args()

models = sorted({ply.parents[2] for ply in options.folder.glob("**/point_cloud/iteration_*/point_cloud.ply")})
for folder in models:
    try:
        avatar = load_model(folder).avatar
    except ta.UserError as error:  # one line that says what is wrong; the others can still be exported
        print(error)
        continue
    name = "_".join(folder.relative_to(options.folder).parts) or folder.name
    for form in ("splat", "glb"):
        path = options.out / f"{name}.{form}"
        export(avatar, form, path, Choice())
        print(path)
