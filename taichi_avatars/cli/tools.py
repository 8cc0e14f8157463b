"""`info`, `warm`, `convert-flame` and `convert-head`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taichi_avatars.cli.command import Session, command


def add_to(app: typer.Typer) -> None:
    command(app, "Tools")(info)
    command(app, "Tools")(warm)
    command(app, "Tools")(convert_flame)
    command(app, "Tools")(convert_head)


def info(
    session: Session,
    *,
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="Folder or file.", show_default="this installation")
    ] = None,
) -> None:
    """Identify and check a folder or file: capture, avatar, FLAME file, motion; or whether a video can be tracked.

    Lists every problem, with the file and what to do. Exit code 1 if there are any. Without a path: which versions of this
    program, its engine and Python run here, on which processor.
    """
    from rich.text import Text

    if path is None:
        from taichi_avatars.inspection.installation import installation

        facts = installation()
        width = max(map(len, facts))
        return session.result(facts, Text("\n".join(f"{name:<{width}}  {value}" for name, value in facts.items())))

    from taichi_avatars.inspection.info import describe, text
    from taichi_avatars.tracking.examine import examine, is_filmed

    if is_filmed(path):
        with session.progress(f"look at {path.name}", 0, "pictures") as bar:
            described = examine(path, bar)
    else:
        described = describe(path)
    session.result(described, Text(text(described)))
    if not described["whole"]:
        raise typer.Exit(1)


def warm(session: Session) -> None:
    """Compile all kernels ahead of time: for rendering, training, the built-in subject and tracking.

    Otherwise each is compiled when first needed, while the user waits. Kernels are kept in the user's cache; a new
    version of this package may bring others.
    """
    from taichi_avatars import engine
    from taichi_avatars.warm import warm as compile_all

    count = compile_all(session.progress)
    session.result({"engine": engine.version(), "compiled": count}, f"{count} kernels compiled ({engine.version()})")


def convert_flame(
    session: Session,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE.pkl", help="FLAME model as its authors distribute it.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE.npz", show_default="beside FILE.pkl")] = None,
    landmarks: Annotated[
        Path | None, typer.Option(metavar="FILE.npy", help="landmark_embedding_with_eyes.npy, to include.")
    ] = None,
    masks: Annotated[Path | None, typer.Option(metavar="FILE.pkl", help="FLAME_masks.pkl, to include.")] = None,
) -> None:
    """Convert a FLAME pickle to a plain npz, without executing the pickle.

    The npz has the same keys and can be used wherever the pickle can.

    Example: taichi-avatars convert-flame flame2023.pkl
    """
    from taichi_avatars.head.assets import convert_flame as convert

    written = convert(file, out or file.with_suffix(".npz"), landmarks, masks)
    session.result({"file": str(written)}, f"{written}")


def convert_head(
    session: Session,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE.npz", help="GNM Head's npz, or one that this command made from it.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.npz", show_default="FILE-converted.npz beside it")
    ] = None,
) -> None:
    """Convert a GNM head to the keys of this program's head files, or such a file back to GNM's.

    No command needs this: they read GNM's npz directly. It is for tools that know FLAME's names.

    Example: taichi-avatars convert-head gnm_head.npz -o head.npz
    """
    from taichi_avatars.head.assets import convert_head as convert

    written = convert(file, out or file.with_name(f"{file.stem}-converted.npz"))
    session.result({"file": str(written)}, f"{written}")
