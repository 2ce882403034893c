"""What `predict` looks at: files, folders and patterns, sorted, each image or video once."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from torso.cli._flags import UsageError

_IMAGES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2"}
)  # those of data.files, which imports torch


def expand(paths: Sequence[str], videos: frozenset[str]) -> list[Path]:
    """Files of the given paths: a folder gives the images and videos below it, a pattern what it matches.

    A file named as it is counts whatever its suffix. UsageError for a path that gives nothing.
    """
    found: dict[Path, None] = {}
    for text in paths:
        found.update(dict.fromkeys(_expand_one(text, _IMAGES | videos)))
    return list(found)


def _expand_one(text: str, suffixes: frozenset[str]) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in suffixes)
        if not inside:
            raise UsageError(f"{text}: no images and no videos in this folder; some were wanted")
        return inside
    if path.is_file():
        return [path]
    if glob.has_magic(text):
        matched = [Path(p) for p in sorted(glob.glob(text, recursive=True)) if Path(p).is_file()]
        if matched:
            return matched
        raise UsageError(f"{text}: no file matches this pattern; check it (and quote it, so that the shell leaves it)")
    raise UsageError(f"{text}: no such file or folder; images, folders or patterns were wanted: check the path")
