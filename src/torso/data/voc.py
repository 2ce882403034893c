"""Reader of Pascal VOC trees, one XML an image (Everingham et al., "The Pascal VOC Challenge", 2010)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from torso.data.annotations import Annotations, Box, ImageBoxes, pack
from torso.data.files import files_by_stem, header_size, safe_name, split_of


class VocFolder(NamedTuple):
    """One year of a devkit: where its XML files and its images lie, and the stems of each split."""

    annotations: Path
    images: Path
    splits: Mapping[str, Sequence[str]]


class _Object(NamedTuple):
    name: str
    xyxy: tuple[float, float, float, float]
    difficult: bool


class _Parsed(NamedTuple):
    file_name: str
    size_hw: tuple[int, int]
    objects: list[_Object]


def find_voc(root: Path) -> list[VocFolder]:
    """The VOC folders of a data set: root itself, or the years below it (VOC2007, VOCdevkit/VOC2012); may be empty."""
    places = [root, *sorted(root.glob("VOC*")), *sorted(root.glob("VOCdevkit/*"))]
    found = []
    for place in places:
        annotations = place / "Annotations"
        if annotations.is_dir() and any(annotations.glob("*.xml")):
            images = next((place / name for name in ("JPEGImages", "images") if (place / name).is_dir()), place)
            found.append(VocFolder(annotations, images, _split_lists(place, annotations)))
    return found


def read_voc(folders: Sequence[VocFolder], split: str, root: Path) -> Annotations:
    """The ground truth of one split, over all folders; file names are relative to root.

    Corners are taken as they are written, without the shift by one pixel of VOC's own 1-based convention: most tools
    that write VOC XML today do not use it. Classes are the names found in all splits, in alphabetical order (that of
    the VOC challenge itself), numbered from 1. difficult is carried, and is for the evaluation to honour.
    ValueError names the file where XML, corners or names are wrong.
    """
    parsed = [{path.stem: _parse(path) for path in sorted(folder.annotations.glob("*.xml"))} for folder in folders]
    names = sorted({entry.name for files in parsed for file in files.values() for entry in file.objects})
    labels = {name: label for label, name in enumerate(names)}
    images: list[ImageBoxes] = []
    for folder, files in zip(folders, parsed, strict=True):
        on_disk = files_by_stem(folder.images)
        for stem in folder.splits.get(split, ()):
            if stem not in files:
                raise ValueError(
                    f"{folder.annotations / (stem + '.xml')}: no such file, but the list of split {split!r} names it: "
                    "add the annotation or remove the line"
                )
            name = on_disk.get(stem) or safe_name(files[stem].file_name, folder.annotations / f"{stem}.xml")
            images.append(_image(files[stem], folder.images, name, root, len(images) + 1, labels))
    source = f"{', '.join(str(folder.annotations) for folder in folders)} ({split})"
    return pack(root, source, images, {name: number for number, name in enumerate(names, start=1)})


def _image(file: _Parsed, images: Path, name: str, root: Path, number: int, labels: Mapping[str, int]) -> ImageBoxes:
    path = images / name
    boxes = [Box(xyxy=entry.xyxy, label=labels[entry.name], difficult=entry.difficult) for entry in file.objects]
    return ImageBoxes(
        path.relative_to(root).as_posix(), number, file.size_hw if all(file.size_hw) else header_size(path), boxes
    )


def _split_lists(place: Path, annotations: Path) -> dict[str, list[str]]:
    lists = {path.stem: path for path in sorted((place / "ImageSets" / "Main").glob("*.txt"))}
    named = {stem: path for stem, path in lists.items() if split_of(stem) == stem or stem == "trainval"}
    if not named:
        return {"train": [path.stem for path in sorted(annotations.glob("*.xml"))]}
    return {stem: _read_list(path, annotations) for stem, path in named.items()}


def _read_list(path: Path, annotations: Path) -> list[str]:
    stems = []
    for line in path.read_text(encoding="utf-8").splitlines():
        stem = line.strip()
        if stem:
            stems.append(safe_name(stem, path))
    return stems


def _parse(path: Path) -> _Parsed:
    try:
        top = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError, LookupError) as error:
        raise ValueError(f"{path}: not valid XML ({error}); a VOC annotation was wanted: export it again") from None
    size_hw = (_side(top, "height"), _side(top, "width"))
    file_name = (top.findtext("filename") or "").strip() or path.stem
    return _Parsed(file_name, size_hw, [_object(entry, path) for entry in top.findall("object")])


def _side(top: ElementTree.Element, key: str) -> int:
    text = (top.findtext(f"size/{key}") or "").strip()
    return int(text) if text.isdigit() else 0


def _object(entry: ElementTree.Element, path: Path) -> _Object:
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise ValueError(f"{path}: an object without a name came; a class name was wanted: name it or remove it")
    corners = [entry.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x1, y1, x2, y2 = (float(corner or "") for corner in corners)
    except ValueError:
        raise ValueError(
            f"{path}: object {name!r} has the corners {corners}; the numbers xmin, ymin, xmax, ymax were wanted: "
            "correct it"
        ) from None
    return _Object(name, (x1, y1, x2, y2), (entry.findtext("difficult") or "").strip() == "1")
