"""What comments, docstrings and documents name exists: modules, what is in them, and files of this repository."""

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import taichi_avatars

ROOT = Path(taichi_avatars.__file__).parents[1]
FOLDERS = ("taichi_avatars", "tests", "tools", "benchmarks", "examples")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
QUOTED = re.compile(r"`([^`\n]+)`")
DOTTED = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:\(.*\))?")
FILE = re.compile(r"(?<![\w./*{}-])([\w/-]+\.(?:py|md|cpp|h))(?:::(\w+))?(?![\w*])")
# Names that mean what others made, and endings of files that users have.
ELSEWHERE = {"ti", "tm", "torch", "np", "time", "multiprocessing", "window", "block", "Kernel", "kernel", "self", "_codecs"}
ENDINGS = {
    "json",
    "jsonl",
    "npz",
    "npy",
    "ply",
    "pkl",
    "toml",
    "mp4",
    "png",
    "csv",
    "bin",
    "pt",
    "html",
    "txt",
    "splat",
    "zip",
    "pth",
}
CODE = {"py", "md", "cpp", "h", "js"}  # looked for by FILE
OTHERS_FILES = {"train.py", "render.py", "metrics.py"}  # scripts of the published implementation
PLACEHOLDER = re.compile(r"[A-Z]{3,}\.")  # kernels/NAME.py


def mentions(path: Path) -> Iterator[str]:
    """The comments and docstrings of a source, or a document."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield text
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


@cache
def files() -> frozenset[str]:
    """Files of the repository by each tail of their path: `splat.py`, `ops/splat.py`."""
    whole = [path.relative_to(ROOT).parts for folder in (*FOLDERS, "docs") for path in (ROOT / folder).rglob("*.*")]
    whole += [(path.name,) for path in ROOT.glob("*.*")]
    return frozenset("/".join(parts[k:]) for parts in whole for k in range(len(parts)))


def held(body: list[ast.stmt]) -> dict[str, dict]:
    """The names that statements define or import, and what is in those that are classes."""
    found: dict[str, dict] = {}
    for node in body:
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                found.setdefault(part.id, {})
            elif isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
                found.setdefault(part.attr, {})  # self.something, where the statements are those of a class
            elif isinstance(part, ast.alias):
                found.setdefault((part.asname or part.name).split(".")[0], {})
        if isinstance(node, ast.ClassDef):
            found[node.name] = held(node.body)
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = {}
    return found


@cache
def modules() -> dict[str, list[dict[str, dict]]]:
    """What is in every module of the package, by each tail of its full name: several have the same short one."""
    found = defaultdict(list)
    for path in (ROOT / "taichi_avatars").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        names = held(ast.parse(path.read_text(encoding="utf-8")).body)
        names |= {inner.stem: {} for inner in path.parent.glob("*.py") if path.name == "__init__.py"}
        for k in range(len(parts)):
            found[".".join(parts[k:])].append(names)
    return found


@cache
def classes() -> dict[str, list[dict[str, dict]]]:
    """What is in every class of the package, by its name."""
    found = defaultdict(list)
    for name, contents in modules().items():
        if name.startswith("taichi_avatars"):
            for inner, inside in contents[0].items():
                if inside:
                    found[inner].append(inside)
    return found


def exists(dotted: str) -> bool:
    """Whether a name can be followed from a module or a class of the package to its end."""
    parts = dotted.split(".")
    places = [(parts[1:], inside) for inside in classes().get(parts[0], [])]
    for k in range(1, len(parts) + 1):
        places += [(parts[k:], inside) for inside in modules().get(".".join(parts[:k]), [])]
    for rest, inside in places:
        for name in rest:
            if name not in inside:
                break
            inside = inside[name]
        else:
            return True
    return False


def missing(path: Path) -> list[str]:
    found = []
    for text in mentions(path):
        for file, test in FILE.findall(text):
            if file in OTHERS_FILES or PLACEHOLDER.search(file) or file.startswith("/"):
                continue
            if file not in files():
                found.append(file)
            elif test and not any(
                f"def {test}(" in known.read_text(encoding="utf-8") for known in ROOT.glob(f"tests/**/{file}")
            ):
                found.append(f"{file}::{test}")
        for quoted in QUOTED.findall(text):
            if not (name := DOTTED.fullmatch(quoted)):
                continue
            first, last = name[1].split(".")[0], name[1].split(".")[-1]
            if first not in ELSEWHERE and last not in ENDINGS | CODE and not exists(name[1]):
                found.append(name[1])
    return found


@pytest.mark.parametrize("path", [*DOCUMENTS, *SOURCES], ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_named_exists(path: Path) -> None:
    assert not missing(path)


def test_what_does_not_exist_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "`ops.splat.splat`, `ops.splat.nothing`, `Avatar.render`, `Avatar.fly`, ops/splat.py, ops/no.py"
    )
    assert missing(tmp_path / "a.md") == ["ops/no.py", "ops.splat.nothing", "Avatar.fly"]
