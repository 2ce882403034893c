"""Seven small real sets as folders that every library reads: images, YOLO labels, COCO JSON; train, val and test.

The sets' own val is test here. Sets without one (voc100, coco128) give a quarter of their images. A fifth of train is
held out as val: a library may choose its best epoch by val, and nothing is chosen by test. Who goes where follows from
the SHA-1 of set and file name alone. Images are at most 640 px a side (larger ones by Lanczos), and JPEGs of quality 80
where that saves a twentieth of the bytes (all seven then take 37 MiB); others are copied byte by byte. Boxes without
area are dropped; crowd regions stay in the JSON and are not in the labels.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _harness import write_json
from PIL import Image

LONGEST, QUALITY = 640, 80
WORTH = 0.95  # of its bytes: a JPEG that would keep more is copied as it is
VAL_SHARE, TEST_SHARE = 0.2, 0.25
SPLITS = ("train", "val", "test")
SOURCES_OF = {
    "bccd": ("bccd", "train.json", "val.json"),
    "deeppcb": ("deeppcb", "train.json", "val.json"),
    "tables": ("tables", "train.json", "val.json"),
    "screws": ("screws", "train.json", "val.json"),
    "thermal_cheetah": ("thermal_cheetah", "train.json", "val.json"),
    "voc100": ("voc100_all_formats", "all.json", None),
    "coco128": ("coco128", "train.json", None),
}
"""Folder, file to train on, file to test on (None: held out of the first)."""
MERGED = {"coco128": ("person", "other")}
"""Sets with too few images for their classes: the first class by its name, all others as one."""

Record = dict[str, Any]


def prepare(data: Path, out: Path, names: Sequence[str]) -> Record:
    """Write OUT/NAME of each set and OUT/manifest.json, which is returned: counts and a digest of each set."""
    sets = {}
    for name in names:
        shutil.rmtree(out / name, ignore_errors=True)
        sets[name] = prepare_one(data, out / name, name)
        print(f"{name}: {sets[name]}", flush=True)
    manifest = {"longest": LONGEST, "quality": QUALITY, "val_share": VAL_SHARE, "sets": sets}
    write_json(out / "manifest.json", manifest)
    return manifest


def prepare_one(data: Path, out: Path, name: str) -> Record:
    """One set; its row of the manifest."""
    folder, first, second = SOURCES_OF[name]
    record = json.loads((data / folder / first).read_text())
    if second is None:
        record, test = held_out(record, name, "test", TEST_SHARE)
    else:
        test = json.loads((data / folder / second).read_text())
    train, val = held_out(record, name, "val", VAL_SHARE)
    ids, classes = classes_of(record, name)
    counts: Record = {"classes": list(classes)}
    for split, part in zip(SPLITS, (train, val, test), strict=True):
        counts[split] = write_split(data / folder / "images", out, split, part, ids, classes)
    write_yaml(out / "data.yaml", out.resolve(), classes)
    files = sorted(p for kind in ("images", "annotations") for p in (out / kind).rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(out).as_posix().encode() + hashlib.sha256(file.read_bytes()).digest())
    counts["bytes"] = sum(file.stat().st_size for file in files)
    return {**counts, "sha256": digest.hexdigest()}


def held_out(record: Record, name: str, split: str, share: float) -> tuple[Record, Record]:
    """What stays and what is held out: the images whose hashes are smallest, a share of all."""

    def rank(image: Record) -> str:
        return hashlib.sha1(f"{name}/{split}/{image['file_name']}".encode()).hexdigest()

    images = sorted(record["images"], key=rank)
    taken = {image["id"] for image in images[: round(share * len(images))]}
    parts = []
    for inside in (False, True):
        kept = {key: [x for x in record["images"] if (x["id"] in taken) is inside] for key in ["images"]}
        kept["annotations"] = [a for a in record["annotations"] if (a["image_id"] in taken) is inside]
        parts.append({**record, **kept})
    return parts[0], parts[1]


def classes_of(record: Record, name: str) -> tuple[dict[int, int], tuple[str, ...]]:
    """Index (from 0) of each category id of the source, and the classes' names."""
    categories = sorted(record["categories"], key=lambda c: c["id"])
    if name in MERGED:
        first, _ = MERGED[name]
        return {c["id"]: int(c["name"] != first) for c in categories}, MERGED[name]
    return {c["id"]: i for i, c in enumerate(categories)}, tuple(c["name"] for c in categories)


def write_split(
    source: Path, out: Path, split: str, part: Record, ids: dict[int, int], classes: tuple[str, ...]
) -> Record:
    """Images, labels and JSON of one split; how many images and boxes, and how many boxes without area were dropped."""
    for kind in ("images", "labels"):
        (out / kind / split).mkdir(parents=True)
    (out / "annotations").mkdir(exist_ok=True)
    boxes: dict[int, list[Record]] = {image["id"]: [] for image in part["images"]}
    for annotation in part["annotations"]:
        boxes[annotation["image_id"]].append(annotation)
    images: list[Record] = []
    annotations: list[Record] = []
    for image in part["images"]:
        width, height = write_image(source / image["file_name"], out / "images" / split)
        name = Path(image["file_name"]).name
        images.append({"id": image["id"], "file_name": name, "width": width, "height": height})
        mine = [scaled(a, width / image["width"], width, height, ids) for a in boxes[image["id"]]]
        kept = [a for a in mine if a["area"] > 0]
        annotations += [{"id": len(annotations) + i + 1, "image_id": image["id"], **a} for i, a in enumerate(kept)]
        lines = [yolo_line(a, width, height) for a in kept if not a["iscrowd"]]
        (out / "labels" / split / name).with_suffix(".txt").write_text("".join(lines))
    categories = [{"id": i + 1, "name": c} for i, c in enumerate(classes)]
    record = {"images": images, "annotations": annotations, "categories": categories}
    write_json(out / "annotations" / f"instances_{split}.json", record, indent=None)
    dropped = len(part["annotations"]) - len(annotations)
    return {"images": len(images), "boxes": len(annotations), "dropped": dropped}


def write_image(source: Path, folder: Path) -> tuple[int, int]:
    """A copy of at most LONGEST px a side; its width and height."""
    with Image.open(source) as image:
        share = min(1.0, LONGEST / max(image.size))
        size = (round(image.width * share), round(image.height * share))
        copy = image if share == 1.0 else image.resize(size, Image.Resampling.LANCZOS)
        packed = io.BytesIO()
        copy.save(packed, "JPEG", quality=QUALITY, optimize=True)
    original = source.read_bytes()
    smaller = share < 1.0 or packed.tell() < WORTH * len(original)
    (folder / source.name).write_bytes(packed.getvalue() if smaller else original)
    return size


def scaled(annotation: Record, scale: float, width: int, height: int, ids: dict[int, int]) -> Record:
    """The annotation in the pixels of the copy, clipped to it: xywh, area, iscrowd category_id from 1."""
    x, y, w, h = (v * scale for v in annotation["bbox"])
    x1, y1, x2, y2 = max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)
    w, h = max(x2 - x1, 0.0), max(y2 - y1, 0.0)
    return {
        "category_id": ids[annotation["category_id"]] + 1, "bbox": [round(v, 3) for v in (x1, y1, w, h)],
        "area": round(w * h, 3), "iscrowd": int(annotation.get("iscrowd", 0)),
    }  # fmt: skip


def yolo_line(annotation: Record, width: int, height: int) -> str:
    """Class from 0, centre and size as shares of the image."""
    x, y, w, h = annotation["bbox"]
    numbers = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
    return f"{annotation['category_id'] - 1} {' '.join(f'{v:.6f}' for v in numbers)}\n"


def write_yaml(file: Path, path: Path, classes: Sequence[str]) -> None:
    """The description that libraries of YOLO layout read."""
    splits = "".join(f"{split}: images/{split}\n" for split in SPLITS)
    names = "".join(f"  {i}: {json.dumps(name)}\n" for i, name in enumerate(classes))
    file.write_text(f"path: {path}\n{splits}nc: {len(classes)}\nnames:\n{names}")
