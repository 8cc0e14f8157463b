"""Pickles as FLAME's files are, without chumpy or scipy, and pickles that try to run something."""

import io
import pickle
import sys
import types

import numpy as np
import pytest
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.files.pickles import load_npy, load_pickle, read_pickle


def read(data: bytes):
    return read_pickle(io.BytesIO(data), "file.pkl")


@pytest.fixture
def foreign(monkeypatch):
    """Makes and pickles classes of packages that are not installed; the packages are gone when the pickle is read."""

    def make(module: str, name: str) -> type:
        parts = module.split(".")
        for i in range(len(parts)):
            path = ".".join(parts[: i + 1])
            if path not in sys.modules:
                monkeypatch.setitem(sys.modules, path, types.ModuleType(path))
        kind = type(name, (), {"__module__": module})
        setattr(sys.modules[module], name, kind)
        return kind

    def dump(value: object, protocol: int) -> bytes:
        data = pickle.dumps(value, protocol)
        for name in [n for n in sys.modules if n.split(".")[0] in ("chumpy", "scipy")]:
            monkeypatch.delitem(sys.modules, name)
        return data

    return types.SimpleNamespace(make=make, dump=dump)


def instance(kind: type, **state):
    one = kind.__new__(kind)
    one.__dict__.update(state)
    return one


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float64).reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
        np.arange(4, dtype=">i4"),
        np.array(2.5),
        np.zeros((0, 3), np.uint32),
        np.array([True, False]),
        np.array(["neck", "jaw"]),
    ],
)
def test_arrays(array, protocol: int) -> None:
    got = read(pickle.dumps({"a": array, "list": [array, (array,)]}, protocol))
    for one in (got["a"], got["list"][0], got["list"][1][0]):
        np.testing.assert_array_equal(one, array)
        assert one.dtype.kind == array.dtype.kind


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_scalars_and_sets(protocol: int) -> None:
    value = {"n": 3, "x": np.float64(1.5), "s": {1, 2}, "b": b"\xff\x00", "e": b"", "t": ("a", None, True)}
    assert read(pickle.dumps(value, protocol)) == value


def test_an_array_of_objects() -> None:
    array = np.empty(2, object)
    array[0], array[1] = np.arange(3), {"a": np.arange(2)}
    got = read(pickle.dumps(array))
    np.testing.assert_array_equal(got[0], np.arange(3))
    np.testing.assert_array_equal(got[1]["a"], np.arange(2))


def test_an_array_as_python_2_wrote_it() -> None:
    raw = np.arange(6, dtype="<f8").tobytes()
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02K\x03\x86"
        b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + len(raw).to_bytes(4, "little") + raw + b"tb."
    )
    np.testing.assert_array_equal(read(data), np.arange(6).reshape(2, 3))


@pytest.mark.parametrize("protocol", range(6))
def test_chumpy_holders_without_chumpy(foreign, protocol: int) -> None:
    holder, select = foreign.make("chumpy.ch", "Ch"), foreign.make("chumpy.reordering", "Select")
    inner = instance(holder, x=np.arange(12.0).reshape(3, 4), _dirty_vars=set(), _parents={})
    chosen = instance(select, a=inner, idxs=np.array([0, 5, 7, 2]), preferred_shape=(2, 2))
    data = foreign.dump({"shapedirs": inner, "nested": instance(holder, x=inner), "posedirs": chosen}, protocol)
    got = read(data)
    assert "chumpy" not in sys.modules
    np.testing.assert_array_equal(got["shapedirs"], np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(got["nested"], np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(got["posedirs"], [[0, 5], [7, 2]])


def test_a_chumpy_holder_without_a_value_is_named(foreign) -> None:
    kind = foreign.make("chumpy.ch_ops", "add")
    with pytest.raises(UserError, match=r"file\.pkl: holds a chumpy\.ch_ops\.add without x"):
        read(foreign.dump(instance(kind, a=1, b=2), 2))


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("module", ["scipy.sparse.{0}", "scipy.sparse._{0}"])
@pytest.mark.parametrize("layout", ["csr", "csc", "coo"])
def test_sparse_matrices_without_scipy(foreign, layout: str, module: str, protocol: int) -> None:
    dense = np.array([[0, 2.0, 0, 1], [0, 0, 0, 0], [3, 0, 0, 4]])
    rows, columns = (i.astype(np.int32) for i in np.nonzero(dense))
    if layout == "coo":
        state = {"row": rows, "col": columns, "data": dense[rows, columns]}
    else:
        order = np.lexsort((columns, rows) if layout == "csr" else (rows, columns))
        outer, inner = ((rows, columns) if layout == "csr" else (columns, rows))[:2]
        starts = np.searchsorted(outer[order], np.arange(dense.shape[0 if layout == "csr" else 1] + 1)).astype(np.int32)
        state = {"indices": inner[order], "indptr": starts, "data": dense[rows, columns][order]}
    kind = foreign.make(module.format(layout), f"{layout}_matrix")
    got = read(foreign.dump({"J": instance(kind, _shape=(3, 4), maxprint=50, **state)}, protocol))
    assert "scipy" not in sys.modules
    np.testing.assert_array_equal(got["J"], dense)


def test_torch_tensors_in_an_npy(tmp_path) -> None:
    base = torch.arange(12.0).view(3, 4)
    value = {
        "faces": torch.arange(70)[None],
        "weights": torch.rand(1, 70, 3),
        "transposed": base.t(),
        "slice": base[1:, 2],
        "half": torch.ones(3).half(),
        "scalar": torch.tensor(2.0),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "empty": torch.zeros(0, 3),
    }
    array = np.empty((), object)
    array[()] = value
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    got = load_npy(tmp_path / "a.npy")
    for key, tensor in value.items():
        np.testing.assert_array_equal(got[key], tensor.detach().numpy(), err_msg=key)


class Runs:
    """Writes a file when it is unpickled the usual way."""

    def __init__(self, path, function=None) -> None:
        self.path, self.function = path, function

    def __reduce__(self):
        import pathlib

        return (self.function or pathlib.Path.touch), (pathlib.Path(self.path),)


def test_nothing_is_run(tmp_path) -> None:
    import os

    marker = tmp_path / "run"
    attacks = {
        "touch": pickle.dumps({"v_template": Runs(marker)}),
        "posix.system": b"cposix\nsystem\n(S'touch %s'\ntR." % str(marker).encode(),
        "os.system": b"cos\nsystem\n(S'touch %s'\ntR." % str(marker).encode(),
        "eval": b"c__builtin__\neval\n(S\"open('%s','w')\"\ntR." % str(marker).encode(),
        "builtins.getattr": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR.",
        "inst": b"(S'touch %s'\nios\nsystem\n." % str(marker).encode(),
        "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(f"touch {marker}")])
        + f"touch {marker}".encode() + b"\x85R.",
        "numpy.f2py": b"cnumpy.testing._private.utils\nrunstring\n(S'open(\"%s\",\"w\")'\n}tR." % str(marker).encode(),
        "torch.load": b"ctorch.serialization\nload\n(S'x'\ntR.",
        "dotted": b"\x80\x04\x8c\x09chumpy.ch\x8c\x0eos.path.system\x93.",
    }  # fmt: skip
    usual = attacks["os.system"]
    pickle.loads(usual)
    assert marker.exists(), "the attack is real"
    os.remove(marker)
    for name, data in attacks.items():
        with pytest.raises(UserError) as caught:
            read(data)
        assert not marker.exists(), name
        assert "\n" not in str(caught.value) and "file.pkl" in str(caught.value)


def test_a_refusal_names_the_class() -> None:
    with pytest.raises(UserError, match=r"file\.pkl: names collections\.Counter, which is no array.*nothing of it was run"):
        import collections

        read(pickle.dumps(collections.Counter("aab")))


def test_a_forged_name_cannot_break_the_line() -> None:
    with pytest.raises(UserError, match=r"names os\.sys\?\[31m\?tem"):
        read(b"\x80\x04\x8c\x02os\x8c\x0csys\x1b[31m\ntem\x93.")


def test_an_attack_inside_a_torch_storage_is_refused(tmp_path) -> None:
    marker = tmp_path / "run"
    inner = b"".join(pickle.dumps(v) for v in (1, 2, 3)) + b"cos\nsystem\n(S'touch %s'\ntR." % str(marker).encode()
    data = b"ctorch.storage\n_load_from_bytes\n(" + b"B" + len(inner).to_bytes(4, "little") + inner + b"tR."
    with pytest.raises(UserError, match=r"names os\.system"):
        read(data)
    assert not marker.exists()


@pytest.mark.parametrize(
    "data",
    [
        # Replacing a method of the classes that the unpickler hands out.
        b"cnumpy\nndarray\n(N}S'plain'\ncnumpy\ndtype\nstb.",
        b"ccollections\nOrderedDict\n(N}S'__setstate__'\ncnumpy\ndtype\nstb.",
        b"cchumpy.ch\nCh\n(N}S'plain'\ncnumpy\ndtype\nstb.",
        # A dtype whose state would make numpy take bytes for pointers.
        b"cnumpy\ndtype\n(S'V8'\nI0\nI1\ntR(I3\nS'|'\nN(S'a'\nt}I8\nI1\nI27\ntb.",
        # An array of objects made from bytes, and of records.
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01\x85"
        b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R\x89U\x08AAAAAAAAtb.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01\x85"
        b"cnumpy\ndtype\nU\x05i4,O8K\x00K\x01\x87R\x89U\x0cAAAAAAAAAAAAtb.",
        # Persistent references, extension codes, truncation, nonsense, recursion.
        b"Psomewhere\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n",
        b"\xff\xd8\xff\xe0",
        b"",
        b"\x80\x02]q\x00h\x00a.",
    ],
)
def test_forged_pickles_are_one_line(data: bytes) -> None:
    with pytest.raises(UserError, match=r"^file\.pkl: ") as caught:
        value = read(data)
        pytest.fail(f"got {value!r}")
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(read(pickle.dumps(np.arange(3), 2)), np.arange(3))  # the reader is as before


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (13,), (1,)), (5, (8,), (1,)), (0, (3, 4), (5, 1)), (-1, (2,), (1,)), (0, (2,), (-1,)), (0, (10**6, 10**6), (0, 0))],
)
def test_a_tensor_that_reaches_past_its_storage_is_refused(offset, size, stride) -> None:
    storage = torch.arange(12.0).storage()

    class Forged:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, {})

    with pytest.raises(UserError, match=r"torch tensor"):
        read(pickle.dumps(Forged()))


def test_missing_and_cut_off_files(tmp_path) -> None:
    with pytest.raises(UserError, match=r"gone\.pkl: cannot be read"):
        load_pickle(tmp_path / "gone.pkl")
    with pytest.raises(UserError, match=r"gone\.npy: cannot be read"):
        load_npy(tmp_path / "gone.npy")
    path = tmp_path / "a.npy"
    path.write_bytes(b"not an npy")
    with pytest.raises(UserError, match=r"a\.npy: is not a complete \.npy"):
        load_npy(path)
