"""Small data sets of drawn rectangles, the same truth in COCO, VOC and YOLO form; for any test that needs files.

from data.builders import write_coco; root = write_coco(tmp_path / "set", n_images=8, seed=0)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("red", "green", "blue")
COLOURS = ((220, 30, 30), (30, 200, 40), (40, 60, 230))


class Drawn(NamedTuple):
    """name without suffix; boxes [n, 4] xyxy whole px; labels [n]."""

    name: str
    image: Image.Image
    boxes: np.ndarray
    labels: np.ndarray


def draw(n_images: int, seed: int = 0, *, size_hw: tuple[int, int] = (96, 128), most: int = 3) -> list[Drawn]:
    """Grey noise with 1..most filled rectangles an image, one a quarter so that none hides another."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    drawn = []
    for number in range(n_images):
        image = Image.fromarray(rng.integers(90, 130, (height, width, 3), dtype=np.uint8))
        quarters = rng.permutation(4)[: rng.integers(1, min(most, 4) + 1)]
        labels = rng.integers(0, len(CLASSES), len(quarters))
        boxes = np.array([_box(rng, int(quarter), height // 2, width // 2) for quarter in quarters])
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels, strict=True):
            ImageDraw.Draw(image).rectangle((x1, y1, x2 - 1, y2 - 1), fill=COLOURS[label])
        drawn.append(Drawn(f"image_{seed}_{number:03d}", image, boxes, labels))
    return drawn


def write_coco(
    root: Path, n_images: int = 8, seed: int = 0, *, split: str = "train", size_hw: tuple[int, int] = (96, 128)
) -> Path:
    """root/{split}.json + root/images/*.png, category ids 1, 3, 5. Call again to add a split (another seed)."""
    drawn = draw(n_images, seed, size_hw=size_hw)
    _save_images(drawn, root / "images")
    images, annotations = [], []
    for number, image in enumerate(drawn, start=1):
        images.append({"id": number, "file_name": f"{image.name}.png", "height": size_hw[0], "width": size_hw[1]})
        for (x1, y1, x2, y2), label in zip(image.boxes.tolist(), image.labels.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 2 * label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 2 * label + 1, "name": name} for label, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / f"{split}.json").write_text(json.dumps(content))
    return root


def write_voc(
    root: Path, n_images: int = 8, seed: int = 0, *, split: str = "train", size_hw: tuple[int, int] = (96, 128)
) -> Path:
    """root/JPEGImages/*.png + root/Annotations/*.xml + root/ImageSets/Main/{split}.txt."""
    drawn = draw(n_images, seed, size_hw=size_hw)
    _save_images(drawn, root / "JPEGImages")
    (root / "Annotations").mkdir(exist_ok=True)
    (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    for image in drawn:
        (root / "Annotations" / f"{image.name}.xml").write_text(voc_xml(image))
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{image.name}\n" for image in drawn))
    return root


def write_yolo(
    root: Path, n_images: int = 8, seed: int = 0, *, split: str = "train", size_hw: tuple[int, int] = (96, 128)
) -> Path:
    """root/data.yaml + root/images/{split}/*.png + root/labels/{split}/*.txt."""
    drawn = draw(n_images, seed, size_hw=size_hw)
    _save_images(drawn, root / "images" / split)
    (root / "labels" / split).mkdir(parents=True, exist_ok=True)
    for image in drawn:
        (root / "labels" / split / f"{image.name}.txt").write_text(yolo_text(image))
    present = sorted(folder.name for folder in (root / "images").iterdir())
    lines = [f"{name}: images/{name}" for name in present] + [f"names: [{', '.join(CLASSES)}]"]
    (root / "data.yaml").write_text("\n".join(lines) + "\n")
    return root


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a JSON file in place, to make a fault."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def voc_xml(image: Drawn) -> str:
    """The VOC annotation of one image."""
    top = ElementTree.Element("annotation")
    ElementTree.SubElement(top, "filename").text = f"{image.name}.png"
    size = ElementTree.SubElement(top, "size")
    for key, value in (("width", image.image.width), ("height", image.image.height), ("depth", 3)):
        ElementTree.SubElement(size, key).text = str(value)
    for box, label in zip(image.boxes.tolist(), image.labels, strict=True):
        entry = ElementTree.SubElement(top, "object")
        ElementTree.SubElement(entry, "name").text = CLASSES[label]
        ElementTree.SubElement(entry, "difficult").text = "0"
        corners = ElementTree.SubElement(entry, "bndbox")
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ElementTree.SubElement(corners, key).text = str(value)
    return ElementTree.tostring(top, encoding="unicode")


def yolo_text(image: Drawn) -> str:
    """The YOLO label lines of one image."""
    width, height = image.image.size
    lines = []
    for (x1, y1, x2, y2), label in zip(image.boxes.tolist(), image.labels, strict=True):
        centre = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height)
        lines.append(f"{label} {centre[0]:.8f} {centre[1]:.8f} {(x2 - x1) / width:.8f} {(y2 - y1) / height:.8f}\n")
    return "".join(lines)


def _box(rng: np.random.Generator, quarter: int, height: int, width: int) -> list[int]:
    w, h = int(rng.integers(width // 3, width - 4)), int(rng.integers(height // 3, height - 4))
    x = int(rng.integers(0, width - w)) + (quarter % 2) * width
    y = int(rng.integers(0, height - h)) + (quarter // 2) * height
    return [x, y, x + w, y + h]


def _save_images(drawn: list[Drawn], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image in drawn:
        image.image.save(folder / f"{image.name}.png")
