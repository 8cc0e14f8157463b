"""A scene without a head has what can be said of it, and nothing else."""

from pathlib import Path

import numpy as np
from viewer.host import running
from viewer.visitor import Visitor

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.bench import example_avatar
from taichi_avatars.viewer.subject import subject_of
from taichi_avatars.viewer.viewer import Viewer


def test_an_unbound_scene_is_turned_and_filmed_without_a_timeline(tmp_path: Path) -> None:
    gaussians = example_avatar(3000).gaussians
    gaussians.binding = None
    viewer = Viewer(subject_of(Avatar(gaussians), None, None, background=(1.0, 1.0, 1.0)), tmp_path, port=0, height=120)
    with running(viewer):
        visitor = Visitor(viewer.address, 80, 120)
        before = visitor.rested()
        assert (before < 200).any()
        assert not {"Play", "Frame", "Mesh", "Jaw: open", "Split"} & visitor.controls.keys()
        count = visitor.pictures
        visitor.set("Gaussians", "depth")
        assert not np.array_equal(visitor.rested(count), before)
        visitor.click("Front view")
        visitor.set("Seconds between", 0.2)
        visitor.click("Add key frame")
        visitor.click("Add key frame")
        visitor.wait_for(lambda: len(viewer.director.keys) == 2, "key frames")
        visitor.click("Film it: mp4")
        visitor.wait_for(lambda: "film_1.mp4" in visitor.files, "a film")
        visitor.close()
