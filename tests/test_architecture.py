"""The rooms of the package and the one direction in which they may import each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import taichi_avatars

PACKAGE = Path(taichi_avatars.__file__).parent
# A room imports its own floor and those below. What is in no room (errors, files, config, runtime) may be imported by all.
FLOORS = {
    "files": 0,
    "kernels": 0,
    "ops": 1,
    "reference": 1,
    "head": 2,
    "faces": 2,
    "scene": 3,
    "avatar": 3,
    "evaluation": 4,
    "training": 4,
    "motion": 4,
    "video": 4,
    "export": 4,
    "inspection": 4,
    "viewer": 4,
    "synthetic": 4,
    "cli": 5,
}


def imported_rooms(file: Path) -> set[str]:
    """Rooms that a file imports from, at its top or inside a function."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE.name:
            names += [f"{PACKAGE.name}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith(f"{PACKAGE.name}.")} & FLOORS.keys()


@pytest.mark.parametrize("room", sorted(FLOORS))
def test_no_arrow_points_up(room: str) -> None:
    for file in sorted((PACKAGE / room).rglob("*.py")):
        above = {other for other in imported_rooms(file) if FLOORS[other] > FLOORS[room]}
        assert not above, f"{file.relative_to(PACKAGE)} imports {above}"


def test_importing_ops_does_not_load_taichi() -> None:
    modules = [f"taichi_avatars.ops.{path.stem}" for path in (PACKAGE / "ops").glob("*.py") if path.stem != "__init__"]
    code = f"import sys\nimport {', '.join(modules)}\nassert 'taichi' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
