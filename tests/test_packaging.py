"""What a wheel and a source archive hold: everything that the package needs, and nothing else."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import taichi_avatars

ROOT = Path(__file__).parents[1]
PARTS = ("taichi_avatars", "pyproject.toml", "README.md", "LICENSE")
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def build(kind: str, source: Path, out: Path) -> Path:
    """Builds a wheel or sdist of a source tree as pip does, with the setuptools that is here."""
    out.mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, "-c", BUILD, f"build_{kind}", out], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, since a build writes into it."""
    import setuptools

    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("this setuptools is older than what pyproject.toml builds with")
    folder = tmp_path_factory.mktemp("source")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder / part)
    return folder


def wanted() -> set[str]:
    """Files of the package, as a wheel should name them."""
    files = (path for path in (ROOT / "taichi_avatars").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in files}


def test_a_wheel_holds_the_package_and_its_licence(source: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(build("wheel", source, tmp_path)) as wheel:
        names = set(wheel.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        text = wheel.read(metadata).decode()
    assert {name for name in names if not name.split("/")[0].endswith(".dist-info")} == wanted()
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert re.search(rf"^Version: {re.escape(taichi_avatars.__version__)}$", text, re.MULTILINE)
    assert "License-Expression: Apache-2.0" in text


def test_a_wheel_can_be_built_from_the_source_archive(source: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(build("sdist", source, tmp_path / "sdist"), tmp_path / "unpacked")
    (tree,) = (tmp_path / "unpacked").iterdir()
    with zipfile.ZipFile(build("wheel", tree, tmp_path / "again")) as wheel:
        assert {name for name in wheel.namelist() if name.startswith("taichi_avatars/")} == wanted()
