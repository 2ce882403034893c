"""File names of a data set: kept inside its image folder, listed once instead of asked for one by one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from torso.geometry.resize import SizeHW
from torso.images import image_size

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2"})

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def safe_name(name: object, source: Path) -> str:
    """A relative file name that stays below its folder, in posix form; ValueError otherwise."""
    if not isinstance(name, str) or not name or "\0" in name or not _is_utf8(name):
        raise ValueError(f"{source}: file name {name!r} came; a relative file name was wanted: correct the annotation")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise ValueError(
            f"{source}: file name {name!r} leaves the image folder; a name relative to it, without '..', was wanted: "
            "correct the annotation or move the image into the data set"
        )
    return str(path)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_inside(path: Path, root: Path, source: str) -> None:
    """ValueError if path, with symbolic links followed, lies outside root."""
    real = path.resolve()
    if not real.is_relative_to(root.resolve()):
        raise ValueError(
            f"{source}: {path} leaves the data set's folder {root} (it is {real}); a file inside was wanted: "
            "copy it into the data set"
        )


class FolderListing:
    """Which files exist below a folder: one listing a folder, because a stat a file is slow on network disks."""

    def __init__(self, root: Path, source: str) -> None:
        self.root = root
        self.source = source
        self._folders: dict[str, set[str]] = {}

    def has(self, name: str) -> bool:
        """Whether root / name is a file; ValueError if it is a link that leaves root."""
        folder, _, leaf = name.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._list(folder)
        return leaf in self._folders[folder]

    def _list(self, folder: str) -> set[str]:
        path = self.root / folder
        if not path.is_dir():
            return set()
        check_inside(path, self.root, self.source)
        found = set()
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_symlink():
                    check_inside(Path(entry.path), self.root, self.source)
                if entry.is_file():
                    found.add(entry.name)
        return found


def load_json(path: Path, wanted: str = "a COCO file") -> Any:
    """The content of a JSON file; ValueError says where it stops being JSON, and what was wanted."""
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); {wanted} was wanted: export it again") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); {wanted} was wanted: check the path") from None


def split_of(stem: str) -> str | None:
    """train, val or test where a file or folder name says so (instances_train2017, valid), else None."""
    named = {_SPLITS[word] for word in re.split(r"[^a-z]+", stem.lower()) if word in _SPLITS}
    return named.pop() if len(named) == 1 else None


def files_by_stem(folder: Path) -> dict[str, str]:
    """Image files of a folder: name by stem."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    return {Path(name).stem: name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES}


def header_size(path: Path) -> SizeHW:
    """(height, width) of an image, (0, 0) where it cannot be read: the check of the files says why."""
    try:
        return image_size(path)
    except ValueError:
        return 0, 0
