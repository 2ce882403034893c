"""Checkpoints that are never half-written, hold plain data only, and know where in the data the run was."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

KEY = "torso"
"""Where a checkpoint keeps what torso adds: recipe, class names, averaged weights, position in the data (see
TrainModule.on_save_checkpoint); torso.weights reads it too."""


class AtomicIO(CheckpointIO):
    """Writes beside the target, to the disk, then renames; the file that was there stays as NAME.previous.ckpt."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        save_atomic(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def save_atomic(checkpoint: Mapping[str, Any], path: Path) -> None:
    """At every moment `path` is a whole checkpoint: the new one, or the one before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(dict(checkpoint), file)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            link_atomic(path, previous_of(path))
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def link_atomic(source: Path, target: Path) -> None:
    """target becomes another name of what source is now; a later save to source leaves it alone."""
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(source, temporary)
        except OSError:  # a file system without hard links
            temporary.write_bytes(source.read_bytes())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def previous_of(path: Path) -> Path:
    """last.ckpt -> last.previous.ckpt"""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint, on the CPU, read as plain data: nothing in the file can run code.

    ValueError for a file that is missing, damaged or not a checkpoint of torso.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a checkpoint (.ckpt) of torso was wanted: check the path")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        before = previous_of(path)
        remedy = f"take {before}" if before.is_file() else "take another one"
        why = str(error).strip().split("\n")[0][:120]
        raise ValueError(f"{path}: cannot be read as a checkpoint ({why}); {remedy}") from None
    if not isinstance(checkpoint, dict) or KEY not in checkpoint:
        raise ValueError(f"{path}: not a checkpoint of torso's training; give one from a run's checkpoints folder")
    return checkpoint


def _sync_folder(folder: Path) -> None:
    """The rename itself on the disk, where folders can be synchronised."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
