"""Reader of YOLO text labels (Redmon's darknet format): `class cx cy w h` a line, or the corners of a polygon."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from torso.data.annotations import Annotations, Box, ImageBoxes, pack
from torso.data.files import IMAGE_SUFFIXES, header_size, safe_name, split_of

_YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NAME_LISTS = ("classes.txt", "labels/classes.txt", "obj.names")


class YoloFolder(NamedTuple):
    """A YOLO data set: its class names by number, and for each split the folders or list files of its images."""

    source: Path
    classes: Mapping[str, int]
    splits: Mapping[str, Sequence[Path]]


def find_yolo(root: Path) -> YoloFolder | None:
    """The YOLO data set at root: a data.yaml with names, or images/ beside labels/ with a list of classes; or None."""
    config = _find_yaml(root)
    if config is not None:
        path, content = config
        return YoloFolder(path, _classes(content["names"], content.get("nc"), path), _configured(root, path, content))
    images = root / "images"
    if not images.is_dir() or not (root / "labels").is_dir():
        return None
    names = next((root / name for name in _NAME_LISTS if (root / name).is_file()), None)
    if names is None:
        raise ValueError(
            f"{root}: images/ and labels/ came without class names; a data.yaml with 'names' was wanted: write one "
            "beside them, for example  names: [cat, dog]"
        )
    folders = {split_of(folder.name): [folder] for folder in sorted(images.iterdir()) if folder.is_dir()}
    named = {split: places for split, places in folders.items() if split is not None}
    lines = [line.strip() for line in names.read_text(encoding="utf-8").splitlines() if line.strip()]
    return YoloFolder(names, _classes(lines, None, names), named or {"train": [images]})


def read_yolo(folder: YoloFolder, split: str, root: Path, *, segments: bool = False) -> Annotations:
    """The ground truth of one split; file names are relative to root, category ids are the numbers of the label files.

    The label of an image has its name with .txt, in the same folder with the last `images` replaced by `labels`; a
    image without one has no boxes. Sizes come from the images' headers. A polygon becomes its bounding box;
    segments: keep it beside the box. ValueError names file and line where a label is not understood.
    """
    files = [path for place in folder.splits[split] for path in _images(place, root)]
    labels = {number: label for label, number in enumerate(folder.classes.values())}
    images = []
    for number, path in enumerate(dict.fromkeys(files), start=1):
        size_hw = header_size(path)
        boxes = _read_labels(_label_path(path, root), size_hw, labels, segments)
        images.append(ImageBoxes(path.relative_to(root).as_posix(), number, size_hw, boxes))
    return pack(root, f"{folder.source} ({split})", images, folder.classes)


def _find_yaml(root: Path) -> tuple[Path, dict[str, Any]] | None:
    preferred = [root / name for name in _YAML_NAMES if (root / name).is_file()]
    for path in preferred or sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path}: not valid YAML ({reason}); a YOLO data file was wanted: correct it") from None
        if isinstance(content, dict) and "names" in content:
            return path, content
        if preferred:
            raise ValueError(
                f"{path}: no list 'names' in it; the class names were wanted there: add  names: [cat, dog]"
            )
    return None


def _classes(names: object, count: object, source: Path) -> dict[str, int]:
    numbered = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(numbered, dict) or not numbered or not all(isinstance(key, int) for key in numbered):
        raise ValueError(f"{source}: names {names!r} came; a list of class names was wanted: write  names: [cat, dog]")
    if isinstance(count, int) and count != len(numbered):
        raise ValueError(f"{source}: nc is {count} but there are {len(numbered)} names; correct one of them")
    by_name = {str(numbered[number]): number for number in sorted(numbered)}
    if len(by_name) != len(numbered):
        raise ValueError(f"{source}: a class name is given twice in {list(numbered.values())}; rename one of them")
    return by_name


def _configured(root: Path, source: Path, content: Mapping[str, Any]) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    for key, value in content.items():
        split = split_of(str(key))
        if split is not None and value:
            places = value if isinstance(value, list) else [value]
            splits[split] = [_place(root, source, content.get("path"), place) for place in places]
    if not splits:
        raise ValueError(f"{source}: neither train nor val is named; write  train: images/train")
    return splits


def _place(root: Path, source: Path, base: object, place: object) -> Path:
    """A folder or list file that the YAML names; `path` and ../ (written for another machine) may be wrong."""
    text = str(place)
    tries = [root / str(base or "") / text, root / text, root / text.lstrip("./")]
    for path in tries:
        if path.exists() and path.resolve().is_relative_to(root.resolve()):
            return root / path.resolve().relative_to(root.resolve())
    raise ValueError(
        f"{source}: {text!r} was not found below {root}; a folder of images or a list in the data set was wanted: "
        "correct the path"
    )


def _images(place: Path, root: Path) -> list[Path]:
    if place.is_dir():
        return sorted(path for path in place.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    lines = (line.strip().removeprefix("./") for line in place.read_text(encoding="utf-8").splitlines())
    return [_listed(safe_name(line, place), place, root) for line in lines if line]


def _listed(name: str, source: Path, root: Path) -> Path:
    beside = source.parent / name
    return beside if beside.exists() else root / name


def _label_path(path: Path, root: Path) -> Path:
    parts = list(path.relative_to(root).with_suffix(".txt").parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return root.joinpath(*parts)


def _read_labels(path: Path, size_hw: tuple[int, int], labels: Mapping[int, int], segments: bool) -> list[Box]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file; YOLO labels were wanted: export it again") from None
    filled = [(f"{path}: line {number}", line) for number, line in enumerate(lines, start=1) if line.strip()]
    return [_box(line, where, size_hw, labels, segments) for where, line in filled]


def _box(line: str, where: str, size_hw: tuple[int, int], labels: Mapping[int, int], segments: bool) -> Box:
    try:
        number, *values = (float(word) for word in line.split())
    except ValueError:
        raise ValueError(f"{where} is {line!r}; numbers `class cx cy w h` were wanted: correct it") from None
    if not (len(values) == 4 or (len(values) >= 6 and len(values) % 2 == 0)):
        raise ValueError(
            f"{where} has {len(values)} values after the class; 4 (cx cy w h) or the pairs of a polygon were wanted: "
            "correct it"
        )
    if number not in labels:
        raise ValueError(
            f"{where} has class {number:g}, which is not among the {len(labels)} named classes: "
            "name it or remove the line"
        )
    if max(values) > 2:
        raise ValueError(
            f"{where} has the value {max(values):g}; fractions of the image's size, 0..1, were wanted: "
            "divide x by the width and y by the height"
        )
    height, width = size_hw
    if len(values) > 4:
        xs, ys = [x * width for x in values[::2]], [y * height for y in values[1::2]]
        flat = [value for point in zip(xs, ys, strict=True) for value in point]
        segment = json.dumps([flat], separators=(",", ":")).encode() if segments else b""
        return Box((min(xs), min(ys), max(xs), max(ys)), labels[int(number)], segment=segment)
    cx, cy, w, h = values[0] * width, values[1] * height, values[2] * width, values[3] * height
    return Box((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), labels[int(number)])
