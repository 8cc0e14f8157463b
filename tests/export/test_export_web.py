import base64
import json
import shutil
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from export.browser import BROWSER, evaluate, opened, screenshot, served
from export.subjects import camera_of, colourful_avatar, static_scene
from head.gnm_layout import gnm_arrays
from PIL import Image

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.errors import UserError
from taichi_avatars.export.web import CONTENT, INDEX, PLAYER, write_web
from taichi_avatars.files.png import as_uint8
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.inspection.info import describe
from taichi_avatars.ops import triangle_frames
from taichi_avatars.scene.cameras import Camera

SIZE = (200, 256)
READY = "new Promise((go) => { const look = () => window.avatar ? avatar.ready.then(go) : setTimeout(look, 20); look(); })"


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return colourful_avatar()


def node(script: str, folder: Path) -> object:
    """What a script prints as JSON; it may import the player's modules, which stand in the folder with the ending .mjs."""
    program = shutil.which("node")
    if not program:
        pytest.skip("Node.js is not installed")
    for file in PLAYER.glob("*.js"):
        (folder / f"{file.stem}.mjs").write_bytes(file.read_bytes())
    (folder / "script.mjs").write_text(script)
    done = subprocess.run([program, "script.mjs"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Reads a bundle as the worker does and prints the frames of the triangles at every frame of the motion.
POSES = """
import { readFileSync } from 'fs';
import { createHead, jointsOf } from './head.mjs';
const TYPES = { float32: Float32Array, uint32: Uint32Array, int16: Int16Array };
const meta = JSON.parse(readFileSync('bundle/avatar.json'));
const file = readFileSync('bundle/avatar.bin');
const bytes = file.buffer.slice(file.byteOffset, file.byteOffset + file.length);
const data = {};
for (const [name, { type, offset, length }] of Object.entries(meta.buffers))
  data[name] = new TYPES[type](bytes, offset, length);
const head = createHead(meta, data), E = meta.head.expressions, all = [];
for (let frame = 0; frame < meta.frames; ++frame) {
  const turned = E + 3 * jointsOf(meta).length, out = new Float32Array(12 * meta.faces);
  const row = data.motion.slice(frame * (turned + 3), (frame + 1) * (turned + 3));
  head.frames(head.pose(row, row.subarray(E, turned), row.subarray(turned), frame), out);
  all.push(Array.from(out));
}
console.log(JSON.stringify(all));
"""


def assert_same_poses(avatar: Avatar, folder: Path) -> None:
    assert avatar.head is not None and avatar.sequence is not None
    write_web(avatar, folder / "bundle")
    posed = np.array(node(POSES, folder)).reshape(len(avatar.sequence), -1, 3, 4)
    for rows, timestep in zip(posed, avatar.sequence.timesteps, strict=True):
        frames = triangle_frames(avatar.mesh(timestep).vertices, avatar.head.faces)
        scaled = frames.scale[:, None, None] * frames.rotation
        # The components are rounded to 1/32767 of their largest value: micrometres.
        assert np.abs(rows[..., 3] - frames.center.numpy()).max() < 1e-5
        assert np.quantile(np.abs(rows[..., :3] - scaled.numpy()), 0.999) < 1e-5


def test_the_page_poses_the_head_as_the_package_does(avatar: Avatar, tmp_path: Path) -> None:
    assert_same_poses(avatar, tmp_path)


def test_the_page_poses_a_head_without_a_jaw(avatar: Avatar, tmp_path: Path) -> None:
    arrays, random = gnm_arrays(), np.random.default_rng(3)
    correctives = arrays["pose_correctives_regressor"]
    arrays["pose_correctives_regressor"] = 1e-3 * random.normal(size=correctives.shape).astype(np.float32)
    np.savez(tmp_path / "gnm_head.npz", **arrays)  # pyright: ignore[reportArgumentType]
    head, own = FlameModel.load(tmp_path / "gnm_head.npz"), avatar.sequence
    assert own is not None
    expr = torch.cat([own.expr, torch.zeros(len(own), 3)], 1)
    sequence = replace(own, timesteps=[0, 1], expr=expr, jaw_pose=None)
    sequence = replace(sequence, **{key: values[:2] for key, values in sequence.moving().items()})
    assert_same_poses(Avatar(avatar.gaussians, head, sequence), tmp_path)


def test_the_page_knows_pose_correctives_and_offsets(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "flame2023_open.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    head = FlameModel.load(path, teeth=True)
    random = torch.Generator().manual_seed(2)

    def turns(size: int) -> torch.Tensor:
        return 0.4 * torch.randn(2, size, generator=random)

    sways = torch.rand(head.num_vertices, 1, generator=random) < 0.3  # the page holds the offsets of these alone
    sequence = FlameSequence(
        timesteps=[0, 1],
        shape=torch.randn(head.n_shape, generator=random),
        expr=torch.zeros(2, head.n_expr),
        rotation=turns(3),
        neck_pose=turns(3),
        jaw_pose=turns(3),
        eyes_pose=turns(6),
        translation=turns(3),
        static_offset=0.002 * torch.randn(head.num_vertices, 3, generator=random),
        dynamic_offset=0.002 * sways * torch.randn(2, head.num_vertices, 3, generator=random),
    )
    gaussians = replace(colourful_avatar().gaussians)
    assert gaussians.binding is not None
    gaussians.binding = gaussians.binding % head.num_faces
    assert_same_poses(Avatar(gaussians, head, sequence), tmp_path)


def test_the_page_sorts_from_far_to_near(tmp_path: Path) -> None:
    depths = [0.5, -1.0, 3.0, 3.0, 1e-30, 0.0, -0.25, 1e9, 3.0, 0.50000006]
    script = f"""
import {{ createSorter }} from './sort.mjs';
const sorter = createSorter({len(depths)});
sorter.depths.set({depths});
console.log(JSON.stringify(Array.from(sorter.order())));
"""
    nearest_first = np.argsort(np.float32(depths), kind="stable")
    assert node(script, tmp_path) == nearest_first[::-1].tolist()


def picture(call: object, frame: int, camera: Camera) -> np.ndarray:
    values = {name: getattr(camera, name) for name in ("width", "height", "fx", "fy", "cx", "cy")}
    pose = camera.world_to_camera.flatten().tolist()
    address = evaluate(call, f"avatar.picture({frame}, {json.dumps({**values, 'world_to_camera': pose})})")  # pyright: ignore[reportArgumentType]
    return np.asarray(Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


def psnr(shown: np.ndarray, truth: np.ndarray) -> float:
    return float(-10 * np.log10(((shown.astype(float) - truth) ** 2).mean() / 255**2))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_browser_shows_the_avatar_as_it_is(avatar: Avatar, tmp_path: Path) -> None:
    background = (0.2, 0.5, 1.0)
    write_web(avatar, tmp_path / "site", fps=20.0, background=background, title="Somebody")
    camera = camera_of(avatar, *SIZE)
    off_centre = replace(camera, cx=0.3 * SIZE[0], fx=1.2 * camera.fx)
    with served(tmp_path / "site") as address, opened(address, tmp_path / "profile", 300, 400) as call:
        evaluate(call, READY)
        for frame, timestep in enumerate((4, 7, 10)):
            for seen in (camera, off_centre)[: 1 + (frame == 1)]:
                truth = as_uint8(avatar.render(seen, timestep=timestep, background=background).image)
                shown = picture(call, frame, seen)
                assert shown.shape == truth.shape
                assert psnr(shown, truth) > 45.0
        evaluate(call, "avatar.express({ jawOpen: 0.8 })")
        wide = evaluate(call, "avatar.frames") and picture(call, 0, camera)
        assert psnr(wide, as_uint8(avatar.render(camera, timestep=4, background=background).image)) < 45.0
        # Left alone, it plays.
        evaluate(call, "avatar.play()")
        seen: set[object] = set()
        for _ in range(1000):  # on a busy machine a page may draw nothing for seconds
            seen.add(evaluate(call, "new Promise((go) => setTimeout(() => go(avatar.frame), 60))"))
            if len(seen) > 1:
                break
        assert len(seen) > 1
        assert evaluate(call, "document.title") == "Somebody"
        assert evaluate(call, "document.getElementById('message').hidden")
        page = np.asarray(Image.open(BytesIO(screenshot(call))).convert("RGB"))
        assert page.shape == (400, 300, 3) and tuple(page[2, 2]) == tuple(np.round(255 * np.array(background)).astype(int))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_browser_shows_a_static_scene(tmp_path: Path) -> None:
    scene = static_scene()
    write_web(scene, tmp_path / "site", degree=1)
    camera = camera_of(colourful_avatar(), *SIZE)
    with served(tmp_path / "site") as address, opened(address, tmp_path / "profile", 300, 400) as call:
        evaluate(call, READY)
        assert psnr(picture(call, 0, camera), as_uint8(scene.render(camera, sh_degree=1).image)) > 45.0
        assert evaluate(call, "document.getElementById('play').hidden && document.getElementById('expressions').hidden")
        # What is wrong, the page says.
        content = tmp_path / "site" / CONTENT
        content.write_bytes(content.read_bytes()[:-16])
        call("Page.navigate", url=f"{address}?again")
        again = READY.replace("window.avatar ?", "window.avatar && location.search ?").replace(
            "then(go)", "catch(e => go(e.message))"
        )
        assert "copy the folder again" in evaluate(call, again)
        assert "copy the folder again" in evaluate(call, "document.getElementById('message').textContent")


def test_a_bundle_replaces_a_bundle_and_nothing_else(avatar: Avatar, tmp_path: Path) -> None:
    site = tmp_path / "site"
    size = write_web(avatar, site)
    assert size == sum(file.stat().st_size for file in site.iterdir())
    assert write_web(avatar, site, degree=0) < size
    assert [folder.name for folder in tmp_path.iterdir()] == ["site"]  # no temporary folders are left
    (site / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes\.txt"):
        write_web(avatar, site)
    assert (site / "notes.txt").is_file() and (site / CONTENT).is_file()


def test_info_knows_a_bundle(avatar: Avatar, tmp_path: Path) -> None:
    write_web(avatar, tmp_path / "site", fps=20.0)
    description = describe(tmp_path / "site")
    assert description["whole"] and str(description["kind"]).startswith("web bundle")
    facts = description["facts"]
    assert isinstance(facts, dict) and (facts["gaussians"], facts["frames"], facts["fps"]) == (3000, 3, 20.0)
    content = tmp_path / "site" / CONTENT
    content.write_bytes(content.read_bytes()[:-4])
    assert "want" in str(describe(tmp_path / "site")["problems"])
    content.unlink()
    assert "avatar.bin: is missing" in str(describe(tmp_path / "site")["problems"])
    (tmp_path / "site" / INDEX).write_text("{")
    assert "no index of a web bundle" in str(describe(tmp_path / "site")["problems"])


def test_nothing_comes_from_elsewhere() -> None:
    for file in PLAYER.iterdir():
        assert "http://" not in file.read_text("utf-8") and "https://" not in file.read_text("utf-8"), file.name
