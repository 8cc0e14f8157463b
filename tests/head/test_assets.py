import json
import pickle

import numpy as np
import pytest
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.head.assets import convert_flame, read_head_json, resolve_head, write_head_json
from taichi_avatars.head.flame import BUILTIN, FlameModel
from taichi_avatars.head.flame_files import read_head

needs_builtin = pytest.mark.skipif(not BUILTIN.is_file(), reason="the built-in head has not been made yet (tools/)")


@pytest.fixture(autouse=True)
def no_own_flame(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("TAICHI_AVATARS_FLAME", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("APPDATA", str(tmp_path / "config"))


def pickled(path, keys, protocol: int = 2):
    path.write_bytes(pickle.dumps(keys, protocol))
    return path


def same(a: FlameModel, b: FlameModel) -> None:
    assert torch.equal(a.faces, b.faces)
    shape, expr, jaw = torch.randn(a.n_shape), torch.randn(a.n_expr), torch.randn(3)
    assert torch.equal(a(shape, expr, jaw=jaw).vertices, b(shape, expr, jaw=jaw).vertices)


def test_a_pickle_and_an_npz_give_the_same_head(tmp_path, keys, head_path) -> None:
    same(FlameModel.load(pickled(tmp_path / "head.pkl", keys)), FlameModel.load(head_path))


def test_original_files_hold_300_identity_components_first(tmp_path, make_keys) -> None:
    keys = make_keys(components=400)
    head = FlameModel.load(pickled(tmp_path / "generic_model.pkl", keys))
    assert (head.n_shape, head.n_expr) == (300, 100)
    expr = torch.zeros(100)
    expr[0] = 1
    moved = head(expr=expr).canonical - head.v_template
    np.testing.assert_allclose(moved.numpy(), keys["shapedirs"][..., 300], atol=1e-6)


def test_sparse_regressor_half_floats_and_no_correctives(tmp_path, keys) -> None:
    regressor = keys.pop("J_regressor")
    del keys["posedirs"]
    rows, columns = np.nonzero(regressor)
    keys.update(J_data=regressor[rows, columns], J_indices=columns, J_indptr=np.searchsorted(rows, np.arange(6)))
    keys["shapedirs"] = keys["shapedirs"].astype(np.float16)
    np.savez(tmp_path / "a.npz", **keys)
    head = read_head(tmp_path / "a.npz")
    np.testing.assert_allclose(head.joints.T, regressor, atol=1e-7)  # as float32
    assert head.posedirs is None and head.shapedirs.dtype == np.float32
    mesh = FlameModel.load(tmp_path / "a.npz")(jaw=torch.tensor([0.5, 0, 0]))
    torch.testing.assert_close(mesh.canonical, torch.from_numpy(keys["v_template"]).float(), atol=1e-6, rtol=0)


def test_masks_and_landmarks(tmp_path, keys, head_path) -> None:
    masks = pickled(tmp_path / "FLAME_masks.pkl", {"nose": np.array([3, 1, 2]), "lips": np.array([7])})
    array = np.empty((), object)
    array[()] = {
        "full_lmk_faces_idx": torch.arange(30)[None],
        "full_lmk_bary_coords": torch.full((1, 30, 3), 1 / 3),
        "dynamic_lmk_faces_idx": [torch.zeros(3)],
    }
    np.save(tmp_path / "landmarks.npy", array, allow_pickle=True)
    head = FlameModel.load(head_path, landmarks=tmp_path / "landmarks.npy", masks=masks)
    assert head.regions["nose"].tolist() == [3, 1, 2]
    torch.testing.assert_close(head().landmarks, head.v_template[head.faces[:30]].mean(1), atol=1e-6, rtol=0)
    pickled(masks, {"nose": np.array([30])})
    with pytest.raises(UserError, match=r"FLAME_masks\.pkl: nose holds indices from 30 to 30, want 0 to 29"):
        FlameModel.load(head_path, masks=masks)


def test_convert_keeps_everything(tmp_path, keys) -> None:
    source = pickled(tmp_path / "flame2023.pkl", {**keys, "bs_style": "lbs"})
    masks = pickled(tmp_path / "FLAME_masks.pkl", {"nose": np.array([3, 1, 2])})
    target = convert_flame(source, tmp_path / "flame.npz", masks=masks)
    same(FlameModel.load(source), FlameModel.load(target))
    assert FlameModel.load(target).regions["nose"].tolist() == [3, 1, 2]
    with np.load(target, allow_pickle=False) as file:
        assert {"v_template", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights", "f"} <= set(file.files)
    with pytest.raises(UserError, match=r"want a name that ends in \.npz"):
        convert_flame(source, tmp_path / "flame.pkl")


@needs_builtin
def test_convert_of_the_built_in_head_keeps_everything(tmp_path) -> None:
    copy, head = FlameModel.load(convert_flame(BUILTIN, tmp_path / "head.npz")), FlameModel.builtin()
    same(copy, head)
    assert torch.equal(copy.uv, head.uv) and copy.expression_names == head.expression_names
    assert copy.regions.keys() == head.regions.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": None}, "lacks weights; it holds J_regressor, f"),
        ({"weights": np.zeros((30, 4))}, r"weights has shape \(30, 4\), want \(30, 5\)"),
        ({"posedirs": np.zeros((29, 3, 36))}, r"posedirs has shape \(29, 3, 36\), want \(30, 3, 36\)"),
        ({"f": np.full((4, 3), 30)}, "f holds indices from 30 to 30, want 0 to 29"),
        ({"f": np.zeros((4, 3))}, "f holds float64 numbers, want indices"),
        ({"v_template": np.full((30, 3), np.inf)}, "v_template holds NaN or infinite numbers"),
        ({"n_expr": np.array(7)}, "n_expr is 7, but shapedirs has room for 4"),
        ({"kintree_table": np.zeros((2, 24), int)}, "kintree_table is .* want the parents"),
        ({"J_regressor": np.array([{}])}, "J_regressor cannot be read"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, keys, change, message) -> None:
    keys = {k: v for k, v in {**keys, **change}.items() if v is not None}
    np.savez(tmp_path / "a.npz", **keys)
    with pytest.raises(UserError, match=rf"a\.npz: {message}"):
        FlameModel.load(tmp_path / "a.npz")


def test_other_files_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match=r"a\.obj: is not a head model"):
        FlameModel.load(tmp_path / "a.obj")
    with pytest.raises(UserError, match=r"list\.pkl: holds a list, want FLAME's dictionary"):
        FlameModel.load(pickled(tmp_path / "list.pkl", [1]))


def test_the_argument_comes_first(tmp_path, head_path) -> None:
    (tmp_path / "head.json").write_text('{"head": "unheard-of"}')
    assert resolve_head(head_path, tmp_path).num_vertices == 30


@needs_builtin
def test_head_json_comes_before_the_environment(tmp_path, head_path, monkeypatch) -> None:
    monkeypatch.setenv("TAICHI_AVATARS_FLAME", str(head_path))
    write_head_json(tmp_path, FlameModel.builtin())
    assert json.loads((tmp_path / "head.json").read_text()) == {"head": "builtin-1"}
    assert resolve_head(None, tmp_path / "point_cloud.ply").identity == {"head": "builtin-1"}
    assert resolve_head("builtin").identity == {"head": "builtin-1"}
    assert resolve_head(None, tmp_path / "elsewhere" / "x").num_vertices == 30


def test_a_flame_file_named_by_head_json_is_found_by_its_content(tmp_path, head_path, make_keys, monkeypatch) -> None:
    folder = tmp_path / "avatar"
    write_head_json(folder, FlameModel.load(head_path))
    stated = read_head_json(folder)
    assert stated["head"] == "flame" and stated["file"] == "head.npz" and stated["teeth"] is False
    with pytest.raises(UserError, match=r"head\.json: asks for the FLAME file head\.npz .* found none: give yours with --head"):
        resolve_head(None, folder)
    renamed = tmp_path / "config" / "taichi-avatars" / "flame.npz"
    renamed.parent.mkdir(parents=True)
    renamed.write_bytes(head_path.read_bytes())
    assert resolve_head(None, folder).num_vertices == 30
    np.savez(renamed, **make_keys(seed=1))
    with pytest.raises(UserError, match=r"asks for the FLAME file head\.npz"):
        resolve_head(None, folder)
    monkeypatch.setenv("TAICHI_AVATARS_FLAME", str(head_path))
    assert resolve_head(None, folder).num_vertices == 30


def test_the_environment_comes_before_the_configuration_folder(tmp_path, head_path, make_keys, monkeypatch) -> None:
    with pytest.raises(UserError, match=r"which head\? Give --head builtin, or --head PATH"):
        resolve_head()
    own = tmp_path / "config" / "taichi-avatars" / "flame2023.npz"
    own.parent.mkdir(parents=True)
    np.savez(own, **make_keys(n_vertices=31))
    assert resolve_head().num_vertices == 31
    monkeypatch.setenv("TAICHI_AVATARS_FLAME", str(head_path))
    assert resolve_head().num_vertices == 30
    monkeypatch.setenv("TAICHI_AVATARS_FLAME", str(tmp_path / "gone.npz"))
    with pytest.raises(UserError, match=r"gone\.npz: cannot be read"):
        resolve_head()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"teeth": true}'])
def test_a_broken_head_json_is_named(tmp_path, text: str) -> None:
    (tmp_path / "head.json").write_text(text)
    with pytest.raises(UserError, match=r"head\.json: "):
        resolve_head(None, tmp_path)


@needs_builtin
def test_another_built_in_head_is_not_mistaken_for_ours(tmp_path) -> None:
    (tmp_path / "head.json").write_text('{"head": "builtin-7"}')
    with pytest.raises(UserError, match=r"asks for the head 'builtin-7', but this version has 'builtin-1'"):
        resolve_head(None, tmp_path)
