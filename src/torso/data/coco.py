"""Reader of COCO detection files (Lin et al., "Microsoft COCO", 2014): images, annotations, categories."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torso.data.annotations import Annotations, Box, ImageBoxes, pack
from torso.data.files import header_size, load_json, safe_name, split_of


def read_coco(json_file: Path, images: Path | Sequence[Path], *, segments: bool = False) -> Annotations:
    """The ground truth of one COCO file whose images lie in `images` (of several folders, the first that has one).

    Categories are ordered by id, which gives labels 0..K-1 (gaps in the ids close). segments: keep polygons and RLEs.
    ValueError, in one sentence, where the file contradicts itself: duplicate ids, unknown category or image id,
    a box that is not four numbers, a file name that leaves the folder.
    """
    content = load_json(json_file)
    # A file without the list of annotations holds images to predict on, as COCO's own test set does.
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in ("images", "categories")):
        raise ValueError(
            f"{json_file}: the lists 'images' and 'categories' of a COCO file were wanted; they are not there: "
            "export the data set as COCO detection"
        )
    classes = _categories(content["categories"], json_file)
    folder = images if isinstance(images, Path) else _holder(content["images"], json_file, images)
    records = _records(content["images"], json_file, folder)
    labels = {number: label for label, number in enumerate(classes.values())}
    _add_boxes(records, content.get("annotations") or [], labels, json_file, segments)
    return pack(folder, str(json_file), list(records.values()), classes)


def _categories(entries: Sequence[Any], source: Path) -> dict[str, int]:
    by_id: dict[int, str] = {}
    for entry in entries:
        number, name = _whole(entry, "id", source, "category"), entry.get("name")
        if not isinstance(name, str) or not name:
            raise ValueError(f"{source}: category {number} has the name {name!r}; a text was wanted: name the category")
        if number in by_id:
            raise ValueError(
                f"{source}: category id {number} is given twice ({by_id[number]!r} and {name!r}); ids must differ: "
                "renumber one of them"
            )
        if name in by_id.values():
            raise ValueError(f"{source}: category name {name!r} is given twice; names must differ: merge or rename one")
        by_id[number] = name
    if not by_id:
        raise ValueError(f"{source}: the list of categories is empty; at least one was wanted: export it with classes")
    return {by_id[number]: number for number in sorted(by_id)}


def _records(entries: Sequence[Any], source: Path, images: Path) -> dict[int, ImageBoxes]:
    records: dict[int, ImageBoxes] = {}
    for entry in entries:
        number = _whole(entry, "id", source, "image")
        name = safe_name(entry.get("file_name"), source)
        if number in records:
            raise ValueError(
                f"{source}: image id {number} is given twice ({records[number].name} and {name}); ids must differ: "
                "renumber one of them"
            )
        records[number] = ImageBoxes(name, number, _size(entry, images / name), [])
    return records


def _holder(entries: Sequence[Any], source: Path, folders: Sequence[Path], tries: int = 20) -> Path:
    names = [safe_name(entry.get("file_name"), source) for entry in entries[:tries] if isinstance(entry, dict)]
    holder = next((folder for folder in folders if any((folder / name).is_file() for name in names)), None)
    if holder is None and names:
        raise ValueError(
            f"{source}: {names[0]} was found in none of {', '.join(str(folder) for folder in folders)}; "
            "the images were wanted there: put them into one of these folders"
        )
    return holder or source.parent


def _size(entry: dict[str, Any], path: Path) -> tuple[int, int]:
    height, width = entry.get("height"), entry.get("width")
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return height, width
    return header_size(path)


def _add_boxes(
    images: dict[int, ImageBoxes], entries: Sequence[Any], labels: dict[int, int], source: Path, segments: bool
) -> None:
    for entry in entries:
        if not isinstance(entry, dict):
            raise ValueError(
                f"{source}: annotation {entry!r} came; an object with image_id, category_id, bbox was wanted: "
                "correct it"
            )
        number, image, category = (entry.get(key) for key in ("id", "image_id", "category_id"))
        if not _is_number(image) or image not in images:
            raise ValueError(
                f"{source}: annotation {number} has image_id {image!r}, which no image has; one of the file's images "
                "was wanted: remove the annotation or add its image"
            )
        name = images[image].name
        if not _is_number(category) or category not in labels:
            raise ValueError(
                f"{source}: annotation {number} ({name}) has category_id {category!r}, which is not among the "
                f"categories {_shortened(list(labels))}: add the category or remove the annotation"
            )
        where = f"{source}: annotation {number} ({name})"
        images[image].boxes.append(_box(entry, labels[category], where, segments))


def _box(entry: dict[str, Any], label: int, where: str, segments: bool) -> Box:
    bbox = entry.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_number(value) for value in bbox):
        raise ValueError(f"{where} has bbox {bbox!r}; four numbers [x, y, width, height] were wanted: correct it")
    x, y, width, height = (float(value) for value in bbox)
    area, segment = entry.get("area"), entry.get("segmentation")
    return Box(
        xyxy=(x, y, x + width, y + height),
        label=label,
        crowd=bool(entry.get("iscrowd", 0)),
        difficult=bool(entry.get("difficult", 0)),
        area=float(area) if area is not None and _is_number(area) else None,
        segment=json.dumps(segment, separators=(",", ":")).encode() if segments and segment else b"",
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(entry: object, key: str, source: Path, kind: str) -> int:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{source}: {kind} {key} {value!r} came; a whole number was wanted: renumber the {kind}s")
    return value


def _shortened(values: Sequence[int], most: int = 10) -> str:
    text = ", ".join(map(str, values[:most]))
    return text if len(values) <= most else f"{text}, ... ({len(values)} in all)"


_HEAD = re.compile(rb'\{\s*"(info|licenses|images|annotations|categories)"')


class CocoSplit(NamedTuple):
    """Annotation files that claim one split, the best first, each with the folders to look for its images."""

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
