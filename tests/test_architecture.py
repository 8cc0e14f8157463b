"""The rooms of the package and the one direction in which they may import each other."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import taichi_avatars

PACKAGE = Path(taichi_avatars.__file__).parent
# From the ground up: a room imports itself and the rooms before it, nothing else. Root modules are rooms of one file.
ROOMS = (
    "errors",
    "bars",
    "files",
    "ranks",
    "frontend",
    "machine",
    "openmp",
    "engine",
    "compiled",
    "launching",
    "runtime",
    "config",
    "skinning_layout",
    "kernels",
    "ops",
    "reference",
    "timing",
    "head",
    "faces",
    "scene",
    "synthetic",
    "avatar",
    "evaluation",
    "training",
    "motion",
    "video",
    "tracking",
    "export",
    "inspection",
    "viewer",
    "bench",
    "profiling",
    "stages",
    "warm",
    "demo",
    "create",
    "cli",
)
LARGEST_SHARE = 0.12  # of the code, that one room may hold


def modules() -> dict[str, Path]:
    """Every module of the package by its full name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, names: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports, at its top, inside a function or for its types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    # `from package.room import module` names the room too, whose own file it need not use
    deepest = {name for name in found & names.keys() if not any(other.startswith(f"{name}.") for other in found & names.keys())}
    return deepest - {PACKAGE.name}


def room(name: str) -> str:
    return name.split(".")[1]


def test_every_module_is_in_a_room() -> None:
    assert {room(name) for name in modules() if name.count(".")} - {"__main__"} == set(ROOMS)


@pytest.mark.parametrize("floor", range(len(ROOMS)), ids=ROOMS)
def test_no_arrow_points_up(floor: int) -> None:
    names = modules()
    for name, path in names.items():
        if name.count(".") and room(name) == ROOMS[floor]:
            above = {other for other in imported(path, names) if room(other) not in ROOMS[: floor + 1]}
            assert not above, f"{name} imports {above}"


def test_kernels_import_nothing_of_ours_but_kernels() -> None:
    """Beside them: the engine that runs them, and sizes that must be known without loading Taichi."""
    names = modules()
    for name, path in names.items():
        if name.startswith(f"{PACKAGE.name}.kernels"):
            assert {room(other) for other in imported(path, names)} <= {"kernels", "engine", "skinning_layout"}, name


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = modules()
    try:
        TopologicalSorter({name: imported(path, names) - {name} for name, path in names.items()}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


def test_no_room_is_much_larger_than_the_others() -> None:
    lines: dict[str, int] = {}
    for name, path in modules().items():
        if name.count("."):
            place = f"{room(name)}/subject" if ".subject." in name else room(name)  # the synthetic subject's part is apart
            lines[place] = lines.get(place, 0) + len(path.read_text(encoding="utf-8").splitlines())
    largest = max(lines, key=lines.__getitem__)
    assert lines[largest] < LARGEST_SHARE * sum(lines.values()), f"{largest} holds {lines[largest]} of {sum(lines.values())}"


def test_importing_ops_does_not_load_taichi() -> None:
    names = [name for name in modules() if name.startswith("taichi_avatars.ops.")]
    code = f"import sys\nimport {', '.join(names)}\nassert not {{'taichi', 'quadrants'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
