"""The doctor says by file what is kept, clipped, dropped or refused, and touches nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.builders import change, write_coco, write_voc, write_yolo
from PIL import Image

from torso.data.clean import Finding, clean
from torso.data.dataset import DetectionDataset
from torso.data.doctor import examine
from torso.data.layout import open_dataset
from torso.data.loader import eval_loader
from torso.data.transforms.letterbox import Letterbox

WRITERS = (write_coco, write_voc, write_yolo)


def fingerprint(root: Path) -> dict[str, tuple[str, int]]:
    """Digest and time of every file: what must not change."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), os.stat(p).st_mtime_ns) for p in files}


@pytest.mark.parametrize("write", WRITERS)
def test_nothing_is_written(tmp_path: Path, write: Callable[..., Path]) -> None:
    root = write(tmp_path / "set", 4)
    before = fingerprint(root)
    report = examine(root, files="decode", holdout=0.3)
    assert report.may_train, report.errors
    assert list(report.splits) == ["train", "val"]
    dataset = DetectionDataset(report.splits["train"].annotations, [Letterbox(size_hw=(32, 32))])
    list(eval_loader(dataset, 2))
    assert fingerprint(root) == before


def with_boxes(root: Path, *boxes: list[float]) -> Path:
    """A one-image set (128 x 96) whose annotations are exactly these bboxes, and one good one."""
    write_coco(root, 1)

    def edit(content: dict[str, Any]) -> None:
        content["annotations"] = [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "area": 1, "iscrowd": 0}
            for i, box in enumerate([[10, 10, 20, 20], *boxes], start=1)
        ]

    change(root / "train.json", edit)
    return root


@pytest.mark.parametrize(
    ("box", "kind", "corners"),
    [
        ([5, 5, 0, 0], "degenerate", "5, 5, 5, 5"),
        ([50, 5, -20, 10], "degenerate", "50, 5, 30, 15"),
        ([200, 5, 20, 10], "outside", "200, 5, 220, 15"),
        ([-30, 5, 30, 10], "outside", "-30, 5, 0, 15"),
        ([float("nan"), 5, 20, 10], "not_finite", "nan, 5, nan, 15"),
        ([5, 5, float("inf"), 10], "not_finite", "5, 5, inf, 15"),
        ([10, 10, 20, 20], "repeated", "10, 10, 30, 30"),
    ],
)
def test_boxes_that_are_dropped(tmp_path: Path, box: list[float], kind: str, corners: str) -> None:
    root = with_boxes(tmp_path, box)
    kept, findings = clean(open_dataset(root))
    assert kept.boxes.tolist() == [[10, 10, 30, 30]]
    wanted = {
        "degenerate": "sides longer than 0 were wanted",
        "outside": "a box that touches the image was wanted",
        "not_finite": "four finite numbers were wanted",
        "repeated": "one of its kind was wanted",
    }[kind]
    image = root / "images" / "image_0_000.png"
    text = f"{image}: box 2 (red) is [{corners}] in an image of 128x96; {wanted}: box dropped"
    assert findings == [Finding(kind, "dropped", "image_0_000.png", text)]
    assert examine(root).may_train


def test_boxes_over_the_border_are_clipped(tmp_path: Path) -> None:
    root = with_boxes(tmp_path, [100, 80, 50, 50], [0, 0, 128.3, 20])
    kept, findings = clean(open_dataset(root))
    assert kept.boxes.tolist() == [[10, 10, 30, 30], [100, 80, 128, 96], [0, 0, 128, 20]]
    assert [(finding.kind, finding.action) for finding in findings] == [("clipped", "clipped")]


def test_images_without_boxes_are_kept(tmp_path: Path) -> None:
    root = write_coco(tmp_path, 3)
    change(root / "train.json", lambda c: c.update(annotations=[a for a in c["annotations"] if a["image_id"] != 2]))
    report = examine(root)
    assert report.may_train
    assert len(report.splits["train"].annotations) == 3
    assert (
        "  " + str(root / "images/image_0_001.png") + ": no boxes; kept as an image of background only"
        in report.lines()
    )
    empty = write_yolo(tmp_path / "yolo", 3)
    (empty / "labels/train/image_0_000.txt").unlink()
    (empty / "labels/train/image_0_001.txt").write_text("\n")
    assert len(examine(empty).splits["train"].annotations) == 3


def test_images_that_are_dropped(tmp_path: Path) -> None:
    """Missing, not an image, of another size, turned by EXIF, truncated: each named, the rest is trained on."""
    root = write_coco(tmp_path, 12)
    images = root / "images"
    (images / "image_0_000.png").unlink()
    (images / "image_0_001.png").write_text("not an image")
    Image.new("RGB", (64, 48)).save(images / "image_0_002.png")
    turned = Image.new("RGB", (128, 96))
    turned.getexif()[0x0112] = 6
    turned.save(images / "image_0_003.png", exif=turned.getexif())
    whole = (images / "image_0_004.png").read_bytes()
    (images / "image_0_004.png").write_bytes(whole[: len(whole) // 2])
    report = examine(root, files="decode")
    found = {(item.file, item.kind): item.text for item in report.splits["train"].findings}
    assert [key[1] for key in found] == ["missing", "unreadable", "size", "size", "unreadable"]
    texts = list(found.values())
    assert (
        texts[0] == f"{images}/image_0_000.png: no such file, though the annotation names it; "
        "image dropped: restore the file"
    )
    assert "not an image in any format Pillow reads; replace or remove the file (image dropped)" in texts[1]
    assert "the image is 64x48, its annotation says 128x96; image dropped" in texts[2]
    assert "96x128, its annotation says 128x96; it is turned by its EXIF tag, the annotation is not" in texts[3]
    assert "truncated or corrupt" in texts[4]
    assert report.may_train
    assert len(report.splits["train"].annotations) == 7


def test_most_images_lost_is_refused(tmp_path: Path) -> None:
    root = write_coco(tmp_path, 4)
    for number in range(3):
        (root / "images" / f"image_0_00{number}.png").unlink()
    assert examine(root).errors == (
        f"{root / 'train.json'}: 3 of 4 images cannot be used from {root / 'images'}; most of them were wanted: "
        "check that the images belong to these annotations",
    )


def test_links_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "set", 4)
    link = root / "images" / "image_0_001.png"
    outside = tmp_path / "outside.png"
    shutil.move(link, outside)
    link.symlink_to(outside)
    assert examine(root).errors == (
        f"{root / 'train.json'}: {link} leaves the data set's folder {root / 'images'} (it is {outside}); "
        "a file inside was wanted: copy it into the data set",
    )


def test_no_images_and_no_boxes_are_refused(tmp_path: Path) -> None:
    root = write_coco(tmp_path, 2)
    change(root / "train.json", lambda c: c.update(annotations=[]))
    assert examine(root).errors == (
        f"{root / 'train.json'}: no box is left to learn from; at least one was wanted: check the annotations",
    )
    change(root / "train.json", lambda c: c.update(images=[]))
    report = examine(root)
    assert report.errors == (f"{root / 'train.json'}: no images came; at least one was wanted: check the folder",)
    assert report.lines()[-1] == "Training may not start: 1 error(s)."


def test_reader_faults_are_errors_not_tracebacks(tmp_path: Path) -> None:
    assert not examine(tmp_path).may_train
    root = write_coco(tmp_path, 2)
    change(root / "train.json", lambda c: c["annotations"][0].update(category_id=9))
    (error,) = examine(root).errors
    assert "has category_id 9" in error


def test_splits_are_compared(tmp_path: Path) -> None:
    """Shared images, classes in one list only, another order, a class without boxes."""
    root = write_coco(tmp_path, 6)
    write_coco(root, 4, 1, split="val")
    shutil.copy(root / "images/image_0_000.png", root / "images/image_1_000.png")
    change(root / "val.json", lambda c: c["categories"].reverse() or c["categories"].append({"id": 9, "name": "white"}))
    notes = examine(root).notes
    assert "image_0_000.png (train) and image_1_000.png (val) are the same image: val flatters" in notes
    assert "class white is listed in val only, without boxes" in notes
    change(root / "val.json", lambda c: c["annotations"][0].update(category_id=9))
    (error,) = examine(root).errors
    assert "boxes of class 'white' came, only 'red', 'green', 'blue' were wanted" in error


def test_report_of_real_data(shared_data: Path) -> None:
    """bccd: its two 0x0 boxes are found, nothing else; the JSON form holds plain values."""
    report = examine(shared_data / "bccd")
    assert report.may_train
    counts = {name: (s.images, s.boxes, len(s.annotations.boxes)) for name, s in report.splits.items()}
    assert counts == {"train": (205, 2805, 2804), "val": (87, 1138, 1137)}
    found = [(item.kind, item.file) for split in report.splits.values() for item in split.findings]
    assert found == [("degenerate", "BloodImage_00343.jpg"), ("degenerate", "BloodImage_00338.jpg")]
    assert json.loads(json.dumps(report.as_json()))["splits"]["train"]["classes"] == {
        "RBC": 2381,
        "WBC": 214,
        "Platelets": 209,
    }


def test_cleaning_leaves_the_input_alone(tmp_path: Path) -> None:
    annotations = open_dataset(with_boxes(tmp_path, [100, 80, 50, 50], [5, 5, 0, 0]))
    before = annotations.boxes.copy()
    clean(annotations)
    assert np.array_equal(annotations.boxes, before)
