"""Where the files of a COCO data set lie: its annotation files by split, and the folders its pictures may be in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torso.data.files import split_of

_HEAD = re.compile(rb'\{\s*"(info|licenses|images|annotations|categories)"')


class CocoSplit(NamedTuple):
    """Annotation files that claim one split, the best first, each with the folders to look for its pictures."""

    name: str
    files: list[tuple[Path, list[Path]]]

    def only(self) -> tuple[Path, list[Path]]:
        """The file of this split; ValueError where two have an equal claim."""
        ranks = [_rank(path, self.name) for path, _ in self.files]
        if ranks.count(min(ranks)) > 1:
            names = " and ".join(path.name for path, _ in self.files[: ranks.count(min(ranks))])
            raise ValueError(
                f"{self.files[0][0].parent}: {names} both claim split {self.name!r}; one file was wanted: "
                f"name it {self.name}.json or move the others away"
            )
        return self.files[0]


def find_coco(root: Path) -> Mapping[str, CocoSplit]:
    """Annotation files in annotations/, in root, or in each split's own folder; by split, or by stem without one."""
    found: dict[str, CocoSplit] = {}
    for path in [
        *sorted(root.glob("annotations/*.json")),
        *sorted(root.glob("*.json")),
        *sorted(root.glob("*/_annot*.json")),
    ]:
        own_folder = path.name.startswith("_annot")
        split = split_of(path.parent.name if own_folder else path.stem)
        if split is None and not _looks_like_coco(path):
            continue
        name = split or path.stem
        found.setdefault(name, CocoSplit(name, [])).files.append((path, _image_folders(root, path, name)))
    for entry in found.values():
        entry.files.sort(key=lambda file: _rank(file[0], entry.name))
    return found


def _rank(path: Path, split: str) -> int:
    if path.stem == split:
        return 0
    return 1 if path.stem.startswith(("instances", "_annot")) else 2


def _looks_like_coco(path: Path) -> bool:
    with path.open("rb") as file:
        return path.stem.startswith("instances") or _HEAD.match(file.read(4096)) is not None


def _image_folders(root: Path, path: Path, split: str) -> list[Path]:
    """Existing folders, likeliest first: named as the file (train2017), as the split, or common to all splits."""
    own = path.stem.rpartition("_")[2]
    names = [own, f"images/{own}", split, f"images/{split}", "images", "JPEGImages", "."]
    if split == "val":
        names[:0] = ["valid", "images/valid"]
    folders = [root / name for name in names]
    if path.parent != root:
        folders[:0] = [path.parent] if path.name.startswith("_annot") else []
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
