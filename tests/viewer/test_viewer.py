"""Every control reaches the picture; browsers come, go, lag and lie, and the viewer stays."""

from __future__ import annotations

import itertools
import json
import math
import time

import av
import numpy as np
from viewer.visitor import Visitor

from taichi_avatars.video.camera_path import read_camera_path
from taichi_avatars.viewer import viewer as viewer_module
from taichi_avatars.viewer.picture import posed

# Label and another value; some need other controls set first.
CONTROLS = [
    ("Gaussians", "depth", {}),
    ("Gaussians", "alpha", {}),
    ("Gaussians", "nothing", {}),
    ("Mesh", "mesh", {}),
    ("Mesh", "wireframe", {}),
    ("Mesh", "Gaussians per face", {}),
    ("Opacity", 0.2, {"Mesh": "mesh"}),
    ("Size of Gaussians", 0.5, {}),
    ("SH degree", 0, {}),
    ("Background", (255, 0, 0), {}),
    ("Height, pixels", 160, {}),
    ("FLAME", "tracked", {}),
    ("Neutral face", True, {}),
    ("Jaw: open", 20.0, {}),
    ("Jaw: sideways", 15.0, {}),
    ("Jaw: twist", 15.0, {}),
    ("Neck: nod", 20.0, {}),
    ("Neck: turn", 20.0, {}),
    ("Neck: tilt", 20.0, {}),
    ("Eyes: down", 30.0, {"Mesh": "mesh", "Opacity": 1.0}),
    ("Eyes: aside", 30.0, {"Mesh": "mesh", "Opacity": 1.0}),
    ("browInnerUp", 1.0, {}),
    ("jawOpen", 1.0, {}),  # one of those that are folded away
    ("Frame", 3, {}),
    ("Camera", "cam_03", {}),
]


def test_every_control_reaches_the_picture_and_back(visit) -> None:
    visitor = visit()
    for label, value, first in CONTROLS:
        here = {name: visitor.controls[name]["value"] for name in (label, *first)}
        for name, setting in first.items():
            visitor.set(name, setting)
        before = visitor.rested()
        visitor.set(label, value)
        if label != "Height, pixels":
            visitor.wait_for(lambda: differs(visitor.picture(), before), f"{label} {value}: another picture")  # noqa: B023
        else:
            assert visitor.rested(height=160).shape == (160, 107, 3)
        for name, setting in here.items():
            visitor.set(name, setting)
        if label == "Camera":  # the browser stays where that camera is
            visitor.click("Front view")


def differs(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and int(np.abs(one.astype(int) - other).max()) > 3


def test_reset_brings_the_face_back(visit) -> None:
    visitor = visit()
    before, count = visitor.picture(), visitor.pictures
    for label, value in (("Jaw: open", 20.0), ("Neck: nod", 20.0), ("jawOpen", 1.0)):
        visitor.set(label, value)
    visitor.rested(count)
    count = visitor.pictures
    visitor.click("Reset sliders")
    assert np.array_equal(visitor.rested(count), before)
    assert visitor.controls["Jaw: open"]["value"] == 0.0


def test_statistics_say_what_is_drawn(visit) -> None:
    visitor = visit()
    count = visitor.pictures
    visitor.set("SH degree", 1)
    visitor.rested(count)
    visitor.set("Jaw: open", 5.0)
    said = "80 x 120", "of 6,000 Gaussians", "splats", "FLAME"
    visitor.wait_for(lambda: all(words in visitor.statistics for words in said), "statistics of the whole picture")


def test_playback_advances_pauses_and_follows_the_speed(visit, viewer) -> None:
    visitor = visit()
    visitor.set("Speed", "1/4")
    visitor.click("Play")
    visitor.wait_for(lambda: viewer.timeline.index > 1, "it plays")
    assert viewer.timeline.speed == 0.25 and visitor.controls["Play"]["props"]["label"] == "Pause"
    count = visitor.pictures
    visitor.wait_for(lambda: visitor.pictures > count + 3, "pictures come by themselves")  # how fast is in test_timeline.py
    visitor.set("Loop", False)
    visitor.set("Speed", "2")
    visitor.wait_for(lambda: not viewer.timeline.playing, "it stops at the end")
    assert viewer.timeline.index == 15
    shown = visitor.controls
    visitor.wait_for(lambda: (shown["Frame"]["value"], shown["Play"]["props"]["label"]) == (15, "Play"), "the controls say so")


def test_a_split_has_its_own_timesteps_and_cameras(visit, viewer) -> None:
    visitor = visit()
    everything = set(visitor.controls["Camera"]["props"]["options"])
    visitor.set("Split", "val")
    visitor.wait_for(lambda: set(visitor.controls["Camera"]["props"]["options"]) < everything, "fewer cameras")
    assert list(viewer.timeline.timesteps) == viewer.subject.timesteps("val")
    visitor.set("Split", "test")
    visitor.wait_for(lambda: viewer.timeline.timesteps == (3,), "the held-out timestep")


def test_a_camera_of_the_capture_is_the_browsers_too(visit, viewer) -> None:
    cameras = viewer.subject.cameras("all")
    wanted = cameras["cam_02"]
    visitor = visit(width=wanted.width, height=wanted.height)
    count = visitor.pictures
    visitor.set("Camera", "cam_02")
    image = visitor.rested(count)
    again = wanted.resized(90, 120)
    truth = viewer.ask(lambda: viewer._draw(again, viewer.panel.look())).image
    assert np.abs(image.astype(int) - truth).mean() < 3.0  # JPEG
    visitor.set("Camera", "(free)")
    count = visitor.pictures
    visitor.click("Front view")
    assert np.abs(visitor.rested(count).astype(int) - image).mean() > 3.0


def test_moving_is_coarse_at_once_and_fine_at_rest(visit, viewer) -> None:
    visitor = visit()
    viewer.post(lambda: setattr(viewer, "_share", 0.25))  # as on a slow machine
    count = visitor.pictures
    visitor.stand(position=(0.2, 0.0, 1.2))
    visitor.wait_for(lambda: visitor.pictures > count, "a first picture")
    assert visitor.picture().shape == (30, 20, 3)
    assert visitor.rested(count).shape == (120, 80, 3)


def test_a_still_face_is_posed_once_however_the_camera_moves(visit, monkeypatch) -> None:
    visitor = visit()
    poses = []
    monkeypatch.setattr(viewer_module, "posed", lambda *what: poses.append(what) or posed(*what))
    first = visitor.rested()
    for step in range(5):
        count = visitor.pictures
        visitor.stand(position=(0.1 * step - 0.3, 0.0, 1.2))
        moved = visitor.rested(count)
    assert np.abs(moved.astype(int) - first).mean() > 0.5 and not poses
    count = visitor.pictures
    visitor.set("Jaw: open", 20.0)
    opened = visitor.rested(count)
    assert np.abs(opened.astype(int) - moved).max() > 30 and len(poses) == 1


def test_a_slow_browser_is_never_more_than_one_picture_behind(visit, viewer) -> None:
    visitor = visit(taking=0.2)
    count = visitor.pictures
    taken = count
    for step in range(40):
        visitor.set("Jaw: open", float(step % 30))
        taken = visitor.pictures
        time.sleep(0.05)  # as a hand moves a slider
    visitor.rested(count)
    # On its way when the last change came, drawn by then, the last change itself, and its full size.
    assert visitor.pictures - taken <= 4
    assert visitor.pictures - count < 20


def test_several_browsers_have_their_own_cameras_and_the_same_controls(visit) -> None:
    one, two = visit(), visit(width=120, height=90)
    assert one.picture().shape == (120, 80, 3) and two.picture().shape == (120, 160, 3)
    counts = one.pictures, two.pictures
    one.stand(position=(0.5, 0.0, 1.0))
    one.rested(counts[0])
    assert two.pictures == counts[1]
    one.set("Gaussians", "alpha")
    two.rested(counts[1])
    assert two.controls["Gaussians"]["value"] == "alpha"
    one.close()
    count = two.pictures
    two.set("Gaussians", "depth")
    two.rested(count)
    two.set("Gaussians", "splats")


def test_a_picture_is_saved_in_full(visit, viewer, tmp_path) -> None:
    from PIL import Image

    visitor = visit()
    visitor.click("Save picture")
    visitor.wait_for(lambda: visitor.files, "a file")
    ((name, content),) = visitor.files.items()
    assert name == "tester_00000.png"
    (tmp_path / name).write_bytes(content)
    with Image.open(tmp_path / name) as image:
        assert image.size == (80, 120)
        assert np.abs(np.asarray(image).astype(int) - visitor.picture()).mean() < 3.0


def stand_still(visitor: Visitor, x: float) -> None:
    """Looks from elsewhere, and waits until the viewer has drawn what is seen from there."""
    count = visitor.pictures
    visitor.stand(position=(x, 0.0, 1.2))
    visitor.wait_for(lambda: visitor.pictures > count, "a picture from there")


def test_a_camera_path_is_made_saved_loaded_previewed_and_filmed(visit, viewer, tmp_path) -> None:
    visitor = visit()
    visitor.set("Seconds between", 0.5)
    for x in (-0.3, 0.0, 0.3):
        stand_still(visitor, x)
        visitor.click("Add key frame")
    visitor.wait_for(lambda: len(viewer.director.keys) == 3, "three key frames")
    visitor.click("Save as JSON")
    visitor.wait_for(lambda: "camera_path.json" in visitor.files, "the file")
    content = visitor.files["camera_path.json"]
    (tmp_path / "path.json").write_bytes(content)
    assert read_camera_path(tmp_path / "path.json").times.tolist() == [0.0, 0.5, 1.0]

    visitor.click("Remove last")
    visitor.wait_for(lambda: len(viewer.director.keys) == 2, "two key frames")
    visitor.click("Remove all")
    visitor.wait_for(lambda: not viewer.director.keys, "none")
    visitor.click("Film it: mp4")
    visitor.wait_for(lambda: any("no key frames yet" in notice for notice in visitor.notices), "a notice")
    visitor.upload("Load JSON", "path.json", content)
    visitor.wait_for(lambda: viewer.director.keys == json.loads(content)["keys"], "the same key frames")

    count = visitor.rested() is not None and visitor.pictures
    visitor.click("Preview")
    visitor.wait_for(lambda: visitor.pictures - count > 8, "it moves by itself")
    visitor.rested()

    visitor.click("Film it: mp4")
    visitor.wait_for(lambda: "film_1.mp4" in visitor.files, "the film")
    (tmp_path / "film.mp4").write_bytes(visitor.files["film_1.mp4"])
    with av.open(str(tmp_path / "film.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 26 and frames[0].shape == (120, 80, 3)
    assert all(np.abs(a.astype(int) - b).mean() > 0.05 for a, b in itertools.pairwise(frames))
    assert (viewer._folder / "film_1.mp4").is_file()


def test_a_film_is_cancelled_and_leaves_nothing(visit, viewer) -> None:
    visitor = visit()
    visitor.set("Seconds between", 30.0)
    for x in (-0.3, 0.3):
        stand_still(visitor, x)
        visitor.click("Add key frame")
    visitor.wait_for(lambda: len(viewer.director.keys) >= 2, "key frames")
    visitor.click("Film it: mp4")
    visitor.wait_for(lambda: (visitor.controls["GuiProgressBarMessage"]["value"] or 0) > 0.5, "progress")
    before = sorted(viewer._folder.glob("film*"))
    visitor.click("Film it: mp4")
    visitor.wait_for(lambda: any("already being made" in notice for notice in visitor.notices), "one at a time")
    visitor.click("Cancel")
    visitor.wait_for(lambda: any("cancelled" in notice for notice in visitor.notices), "it is cancelled")
    assert sorted(viewer._folder.glob("*")) == before
    visitor.click("Remove all")
    visitor.wait_for(lambda: not viewer.director.keys, "none")


BAD_VALUES = [math.nan, math.inf, -1e300, "x", "", None, [], {}, [1, 2], True, 2**63, "../../etc/passwd"]


CHECKED = (
    "Gaussians", "Mesh", "Opacity", "Size of Gaussians", "SH degree", "Background", "Height, pixels", "FLAME", "Neutral face",
    "Jaw: open", "browInnerUp", "Frame", "Speed", "Loop", "Split", "Camera", "Seconds between", "Add key frame", "Play",
)  # fmt: skip


def test_bad_values_are_refused(visit) -> None:
    visitor = visit()
    for label in CHECKED:
        was = visitor.controls[label].get("value")
        for value in BAD_VALUES:
            visitor.set(label, value)
        visitor.set(label, was)
        green = 40 + 5 * CHECKED.index(label)
        visitor.set("Background", (7, green, 9))
        visitor.wait_for(lambda: abs(int(visitor.picture()[2, 2, 1]) - green) < 3, f"{label}: it goes on")  # noqa: B023


GARBAGE = (b"", b"junk", b"\x81\xa4type\xa4Nope", b"\x80", b"\xc1" * 100, b"\x81\xa4type\xb0GuiUpdateMessage")


def test_garbage_costs_only_its_own_connection(visit, viewer) -> None:
    visitor = visit()
    for number, content in enumerate(GARBAGE):
        liar = Visitor(viewer.address)
        liar.send_raw(content)
        green = 40 + 20 * number
        visitor.set("Background", (7, green, 9))
        visitor.wait_for(lambda: abs(int(visitor.picture()[2, 2, 1]) - green) < 3, "it goes on")  # noqa: B023
        liar.close()


BAD_PATHS = [
    (b" ", "not valid JSON"),
    (b"\xff\xfa", "not a text file"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"keys": []}', "not a camera path"),
    (b'{"keys": [{"time": 0}]}', "key frame 0"),
    (b'{"keys": [{"time": NaN, "position": [0,0,1], "look_at": [0,0,0]}]}', "time"),
    (b'{"frame": "head", "keys": [{"time": 0, "position": [0,0,1], "look_at": [0,0,0]}]}', "world"),
    (json.dumps({"keys": [{"time": t, "position": [0, 0, 1], "look_at": [0, 0, 0]} for t in (0, 1e9)]}).encode(), "seconds"),
    (b" " * (2 << 20), "bytes"),
]


def test_a_bad_camera_path_is_refused_with_its_reason(visit, viewer) -> None:
    visitor = visit()
    for content, words in BAD_PATHS:
        visitor.upload("Load JSON", "mine.json", content)
        visitor.wait_for(lambda: any(words in notice and "mine.json" in notice for notice in visitor.notices), words)  # noqa: B023
        visitor.notices.clear()
    assert not viewer.director.keys
