"""File names of a data set: kept inside its image folder, listed once instead of asked for one by one."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any


def safe_name(name: object, source: Path) -> str:
    """A relative file name that stays below its folder, in posix form; ValueError otherwise."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"{source}: file name {name!r} came; a relative file name was wanted: correct the annotation")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise ValueError(
            f"{source}: file name {name!r} leaves the image folder; a name relative to it, without '..', was wanted: "
            "correct the annotation or move the picture into the data set"
        )
    return str(path)


def check_inside(path: Path, root: Path, source: Path) -> None:
    """ValueError if path, with symbolic links followed, lies outside root."""
    real = path.resolve()
    if not real.is_relative_to(root.resolve()):
        raise ValueError(
            f"{source}: {path} leaves the data set's folder {root} (it is {real}); a file inside was wanted: "
            "copy it into the data set"
        )


class FolderListing:
    """Which files exist below a folder: one listing a folder, because a stat a file is slow on network disks."""

    def __init__(self, root: Path, source: Path) -> None:
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


def load_json(path: Path) -> Any:
    """The content of a JSON file; ValueError says where it stops being JSON."""
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); a COCO file was wanted: export it again") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); a COCO file was wanted: check the path") from None
