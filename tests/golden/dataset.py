"""The tiny data set of the golden runs: the same images and boxes in COCO's format wherever and whenever it is made.

from golden.dataset import write; root = write(tmp_path / "set")
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("square", "disc")
TRAIN, VAL = 8, 4
EMPTY = 3
"""The image of train that holds nothing."""
CROWDED = 5
"""The image of train whose last box stands for a crowd."""
_CATEGORY_IDS = (2, 7)
_SIDES_HW = ((96, 128), (112, 96), (128, 128), (96, 96))
_COLOURS = ((230, 60, 40), (40, 90, 230))


def write(root: Path) -> Path:
    """root/train.json, root/val.json and root/images/*.png: 8 images to learn from, 4 to evaluate on."""
    (root / "images").mkdir(parents=True)
    _write_split(root, "train", range(TRAIN))
    _write_split(root, "val", range(TRAIN, TRAIN + VAL))
    return root


def make_image(number: int) -> tuple[Image.Image, list[tuple[int, tuple[int, int, int, int]]]]:
    """An image and its objects: (class, (x1, y1, x2, y2)) in whole pixels, one a quarter."""
    rng = np.random.RandomState(number)  # its stream is frozen for good, default_rng's is not
    height, width = _SIDES_HW[number % len(_SIDES_HW)]
    image = Image.fromarray(rng.randint(90, 131, (height, width, 3)).astype(np.uint8))
    objects = []
    for quarter in rng.permutation(4)[: 0 if number == EMPTY else rng.randint(2, 4)].tolist():
        label, box = int(rng.randint(2)), _box(rng, quarter, height // 2, width // 2)
        _draw(image, label, box)
        objects.append((label, box))
    return image, objects


def _box(rng: np.random.RandomState, quarter: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Within one quarter of an image, a third of its sides or more."""
    w, h = int(rng.randint(width // 3, width - 3)), int(rng.randint(height // 3, height - 3))
    x = (quarter % 2) * width + int(rng.randint(0, width - w))
    y = (quarter // 2) * height + int(rng.randint(0, height - h))
    return x, y, x + w, y + h


def _draw(image: Image.Image, label: int, box: tuple[int, int, int, int]) -> None:
    pen, inside = ImageDraw.Draw(image), (box[0], box[1], box[2] - 1, box[3] - 1)
    (pen.rectangle if label == 0 else pen.ellipse)(inside, fill=_COLOURS[label])


def _write_split(root: Path, split: str, numbers: range) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in numbers:
        image, objects = make_image(number)
        name = f"{split}_{number:02d}.png"
        image.save(root / "images" / name)
        images.append({"id": number + 1, "file_name": name, "height": image.height, "width": image.width})
        annotations += [_annotation(number, i, *o, last=i == len(objects) - 1) for i, o in enumerate(objects)]
    categories = [{"id": i, "name": name} for i, name in zip(_CATEGORY_IDS, CLASSES, strict=True)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")


def _annotation(number: int, row: int, label: int, box: tuple[int, int, int, int], *, last: bool) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {
        "id": 10 * number + row + 1,
        "image_id": number + 1,
        "category_id": _CATEGORY_IDS[label],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": int(number == CROWDED and last),
    }
