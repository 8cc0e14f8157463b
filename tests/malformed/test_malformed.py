"""Files that others wrote: whatever is in them, a loader answers with one line, and runs nothing of it."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from malformed.corpus import corpus
from malformed.loaders import LOADERS
from taichi_avatars.errors import UserError

CORPUS = list(corpus())
CASES = int(os.environ.get("FUZZ_CASES", "20"))  # of each loader; 2000 for a long run


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file named CANARY would appear if anything were run."""
    monkeypatch.chdir(tmp_path)


def test_the_corpus_is_large() -> None:
    assert len({(name, data) for name, _, data in CORPUS}) >= 200


@pytest.mark.parametrize("name", LOADERS)
def test_what_the_corpus_spoils_is_good(tmp_path: Path, name: str) -> None:
    path = tmp_path / LOADERS[name].name
    path.write_bytes(LOADERS[name].valid)
    if name == "head npz":
        with pytest.raises(UserError, match="shapedirs"):
            LOADERS[name].read(path)
    else:
        LOADERS[name].read(path)


@pytest.mark.parametrize(("name", "data"), [pytest.param(n, d, id=f"{n}-{w}"[:60]) for n, w, d in CORPUS])
def test_malformed_files_are_one_line(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / LOADERS[name].name
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        LOADERS[name].read(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert not list(tmp_path.rglob("*CANARY*"))


@st.composite
def spoiled(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid file with some bytes changed, cut out or put in; or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(("change", "insert", "remove", "cut", "repeat")))
        if kind == "change":
            piece = draw(st.binary(min_size=1, max_size=8))
            data[at : at + len(piece)] = piece
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 64))]
        elif kind == "cut":
            del data[at:]
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
    return bytes(data)


@pytest.mark.parametrize("name", LOADERS)
@settings(
    max_examples=CASES, deadline=None, database=None, derandomize=CASES <= 20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(data=st.data())
def test_fuzzed_files_are_read_or_one_line(tmp_path: Path, name: str, data: st.DataObject) -> None:
    path = tmp_path / LOADERS[name].name
    path.write_bytes(data.draw(spoiled(LOADERS[name].valid)))
    try:
        LOADERS[name].read(path)
    except UserError as error:
        assert "\n" not in str(error)
