"""Every layout gives the same truth, ids survive, and each contradiction in the files is one clear sentence."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.builders import CLASSES, change, draw, write_coco, write_voc, write_yolo

from torso.data.annotations import Annotations
from torso.data.coco import read_coco
from torso.data.layout import find_layout, held_out, open_dataset, splits
from torso.data.voc import VocFolder, read_voc

WRITERS = (write_coco, write_voc, write_yolo)


def truth(annotations: Annotations, digits: int = 3) -> dict[str, list[tuple[object, ...]]]:
    """Boxes by image stem, as (class, corners), sorted: what no layout may change."""
    records = (annotations.image(row) for row in range(len(annotations)))
    return {
        record.path.stem: sorted(
            (annotations.class_names[label], *(round(float(v), digits) for v in box))
            for label, box in zip(record.labels, record.boxes, strict=True)
        )
        for record in records
    }


@pytest.mark.parametrize("write", WRITERS)
def test_drawn_truth_comes_back(tmp_path: Path, write: Callable[..., Path]) -> None:
    root = write(tmp_path / "set", 5, 0)
    write(root, 3, 1, split="val")
    assert splits(root) == ("train", "val")
    for split, number, seed in (("train", 5, 0), ("val", 3, 1)):
        drawn = {
            image.name: sorted(
                (CLASSES[label], *map(float, box))
                for label, box in zip(image.labels, image.boxes.tolist(), strict=True)
            )
            for image in draw(number, seed)
        }
        assert truth(open_dataset(root, split)) == drawn


def test_seven_formats_of_voc100(shared_data: Path, tmp_path: Path) -> None:
    """VOC XML, both COCO files and YOLO lines of the same 100 photographs agree to a pixel."""
    home = shared_data / "voc100_all_formats"
    forms = home / "original" / "gts"
    coco = truth(open_dataset(home), 0)
    assert sum(map(len, coco.values())) == 273
    assert (
        truth(read_coco(forms / "coco_format_v1" / "instances_default.json", [home / "images"]), 0).keys()
        == coco.keys()
    )
    xml = forms / "pascalvoc_format"
    voc = read_voc([VocFolder(xml, home / "images", {"all": sorted(p.stem for p in xml.glob("*.xml"))})], "all", home)
    assert_close(voc, open_dataset(home), 0.51)
    assert_close(open_dataset(_yolo_tree(home, tmp_path / "yolo")), open_dataset(home), 1.01)


def _yolo_tree(home: Path, root: Path) -> Path:
    source = home / "original" / "gts" / "yolo_format"
    shutil.copytree(home / "images", root / "images")
    shutil.copytree(source / "obj_train_data", root / "labels")
    names = (source / "obj.names").read_text().split()
    (root / "data.yaml").write_text(f"train: images\nnames: {json.dumps(names)}\n")
    return root


def assert_close(ours: Annotations, theirs: Annotations, atol: float) -> None:
    a, b = truth(ours), truth(theirs)
    assert a.keys() == b.keys()
    for stem in a:
        assert len(a[stem]) == len(b[stem]), stem
        left, right = list(a[stem]), list(b[stem])
        for name, *corners in left:
            near = [
                i for i, (other, *c) in enumerate(right) if other == name and np.allclose(c, corners, atol=atol, rtol=0)
            ]
            assert near, (stem, name, corners, right)
            right.pop(near[0])


def test_bccd_as_voc_equals_bccd_as_coco(shared_data: Path, tmp_path: Path) -> None:
    home = shared_data / "bccd"
    shutil.copytree(home / "original", tmp_path, dirs_exist_ok=True)
    shutil.copytree(home / "images", tmp_path / "JPEGImages")
    assert find_layout(tmp_path).kind == "voc"
    for split in ("train", "val"):
        assert truth(open_dataset(tmp_path, split)) == truth(open_dataset(home, split))


def test_coco128_keeps_ids_crowds_and_empty_images(shared_data: Path) -> None:
    home = shared_data / "coco128"
    annotations = open_dataset(home, segments=True)
    original = json.loads((home / "train.json").read_text())
    assert annotations.category_ids == tuple(sorted(c["id"] for c in original["categories"]))
    assert max(annotations.category_ids) == 90
    assert annotations.labels.max() < 80
    assert annotations.crowd.sum() == 10
    assert (np.diff(annotations.box_offsets) == 0).sum() == 2
    back = annotations.to_coco()
    keys = ("image_id", "category_id", "iscrowd", "segmentation")

    def rows(content: dict[str, Any]) -> list[tuple[object, ...]]:
        entries = content["annotations"]
        return sorted((*np.round([*e["bbox"], e["area"]], 6), *(json.dumps(e[key]) for key in keys)) for e in entries)

    assert rows(back) == rows(original)
    assert {i["id"]: i["file_name"] for i in back["images"]} == {i["id"]: i["file_name"] for i in original["images"]}


def test_coco128_as_yolo_equals_coco_without_crowds(shared_data: Path, tmp_path: Path) -> None:
    home = shared_data / "coco128"
    coco = open_dataset(home)
    (tmp_path / "labels").mkdir()
    (tmp_path / "images").mkdir()
    for row in range(len(coco)):
        shutil.copy(coco.path(row), tmp_path / "images")
        label = home / "original" / "yolo_labels" / f"{coco.path(row).stem}.txt"
        if label.exists():
            shutil.copy(label, tmp_path / "labels")
    (tmp_path / "labels" / "classes.txt").write_text("\n".join(coco.class_names))
    assert_close(open_dataset(tmp_path), coco.keep_boxes(~coco.crowd), 0.01)


def test_other_places_of_the_same_files(tmp_path: Path) -> None:
    """COCO's own tree, a file in each split's folder, VOC years in a devkit, YOLO with paths of another machine."""
    root = write_coco(tmp_path / "plain", 3)
    expected = truth(open_dataset(root))
    coco = tmp_path / "coco"
    (coco / "annotations").mkdir(parents=True)
    shutil.copytree(root / "images", coco / "train2017")
    shutil.copy(root / "train.json", coco / "annotations" / "instances_train2017.json")
    (coco / "annotations" / "captions_train2017.json").write_text('{"images": []}')
    own = tmp_path / "own"
    shutil.copytree(root / "images", own / "train")
    shutil.copy(root / "train.json", own / "train" / "_annotations.coco.json")
    write_voc(tmp_path / "voc" / "VOCdevkit" / "VOC2007", 3)
    yolo = write_yolo(tmp_path / "yolo", 3)
    (yolo / "data.yaml").write_text(
        "path: ../datasets/x\ntrain: ../images/train\nnc: 3\nnames: {0: red, 1: green, 2: blue}"
    )
    for folder in (coco, own, tmp_path / "voc", yolo):
        assert splits(folder) == ("train",)
        assert truth(open_dataset(folder), 3) == expected


def test_yolo_polygons_become_boxes(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, 1)
    label = next((root / "labels" / "train").iterdir())
    label.write_text("1 0.25 0.25 0.75 0.25 0.5 0.75\n")
    annotations = open_dataset(root, segments=True)
    assert annotations.boxes.tolist() == [[32.0, 24.0, 96.0, 72.0]]
    assert annotations.to_coco()["annotations"][0]["segmentation"] == [[32.0, 24.0, 96.0, 24.0, 64.0, 72.0]]


def test_hold_out_is_by_name_and_stays_when_images_are_added(tmp_path: Path) -> None:
    root = write_coco(tmp_path, 40)
    train, val = (open_dataset(root, split, holdout=0.25) for split in ("train", "val"))
    names = [{a.name(row) for row in range(len(a))} for a in (train, val)]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 40
    assert 4 <= len(names[1]) <= 16
    fewer = open_dataset(root).keep_images(np.arange(40) < 20)
    assert {fewer.name(row) for row in np.flatnonzero(held_out(fewer, 0.25))} <= names[1]
    assert len(train.image(0).boxes) == len(
        open_dataset(root).image(int(np.flatnonzero(~held_out(open_dataset(root), 0.25))[0])).boxes
    )


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    annotations = open_dataset(write_coco(tmp_path, 4))
    turned = annotations.with_classes(("blue", "green", "red", "white"))
    assert turned.category_ids == (5, 3, 1, 6)
    assert truth(turned) == truth(annotations)
    with pytest.raises(ValueError, match=r"boxes of class 'blue'.* came, only 'red', 'green' were wanted"):
        annotations.with_classes(("red", "green"))


COCO_FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unknown category": (
        lambda c: c["annotations"][0].update(category_id=9),
        "{json}: annotation 1 (image_0_000.png) has category_id 9, which is not among the categories 1, 3, 5: "
        "add the category or remove the annotation",
    ),
    "unknown image": (
        lambda c: c["annotations"][0].update(image_id=77),
        "{json}: annotation 1 has image_id 77, which no image has; one of the file's images was wanted: "
        "remove the annotation or add its image",
    ),
    "image id of a strange kind": (
        lambda c: c["annotations"][0].update(image_id=[1]),
        "{json}: annotation 1 has image_id [1], which no image has; one of the file's images was wanted: "
        "remove the annotation or add its image",
    ),
    "name that is none": (
        lambda c: c["images"][0].update(file_name="a\0b.png"),
        "{json}: file name 'a\\x00b.png' came; a relative file name was wanted: correct the annotation",
    ),
    "annotation that is none": (
        lambda c: c["annotations"].insert(0, 5),
        "{json}: annotation 5 came; an object with image_id, category_id, bbox was wanted: correct it",
    ),
    "image id twice": (
        lambda c: c["images"][1].update(id=1),
        "{json}: image id 1 is given twice (image_0_000.png and image_0_001.png); ids must differ: "
        "renumber one of them",
    ),
    "category id twice": (
        lambda c: c["categories"][1].update(id=1),
        "{json}: category id 1 is given twice ('red' and 'green'); ids must differ: renumber one of them",
    ),
    "bbox of three": (
        lambda c: c["annotations"][0].update(bbox=[1, 2, 3]),
        "{json}: annotation 1 (image_0_000.png) has bbox [1, 2, 3]; four numbers [x, y, width, height] were wanted: "
        "correct it",
    ),
    "name with ..": (
        lambda c: c["images"][0].update(file_name="../../secret.png"),
        "{json}: file name '../../secret.png' leaves the image folder; a name relative to it, without '..', was "
        "wanted: correct the annotation or move the image into the data set",
    ),
    "absolute name": (
        lambda c: c["images"][0].update(file_name="/etc/secret.png"),
        "{json}: file name '/etc/secret.png' leaves the image folder; a name relative to it, without '..', was wanted: "
        "correct the annotation or move the image into the data set",
    ),
    "no categories": (
        lambda c: c.update(categories=[]),
        "{json}: the list of categories is empty; at least one was wanted: export it with classes",
    ),
    "not detection": (
        lambda c: c.pop("images"),
        "{json}: the lists 'images' and 'categories' of a COCO file were wanted; they are not there: "
        "export the data set as COCO detection",
    ),
}


@pytest.mark.parametrize("fault", COCO_FAULTS)
def test_coco_faults(tmp_path: Path, fault: str) -> None:
    root = write_coco(tmp_path, 2)
    edit, sentence = COCO_FAULTS[fault]
    change(root / "train.json", edit)
    with pytest.raises(ValueError, match=f"^{re.escape(sentence.format(json=root / 'train.json'))}$"):
        open_dataset(root)


def test_storage_is_flat(tmp_path: Path) -> None:
    """A handful of plain arrays whatever the number of boxes: no object a box or a name for workers to copy."""
    annotations = open_dataset(write_coco(tmp_path, 6), segments=True)
    held = [*vars(annotations).values(), *vars(annotations.names).values(), *vars(annotations.segments).values()]
    arrays = [value for value in held if isinstance(value, np.ndarray)]
    assert len(arrays) == 12
    assert all(array.dtype.kind in "fiub" for array in arrays)
    assert not any(isinstance(value, list | dict) for value in held)


def test_truncated_json(tmp_path: Path) -> None:
    root = write_coco(tmp_path, 2)
    text = (root / "train.json").read_text()
    (root / "train.json").write_text(text[: len(text) // 2])
    with pytest.raises(
        ValueError, match=r"train\.json: not valid JSON \(.*\); a COCO file was wanted: export it again$"
    ):
        open_dataset(root)


def test_images_that_are_nowhere(tmp_path: Path) -> None:
    root = write_coco(tmp_path, 2)
    shutil.rmtree(root / "images")
    with pytest.raises(ValueError, match=r"image_0_000\.png was found in none of .* the images were wanted there"):
        open_dataset(root)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("<annotation><object>", r"not valid XML \(.*\); a VOC annotation was wanted: export it again"),
        ("<a><object><bndbox/></object></a>", "an object without a name came; a class name was wanted: name it or"),
        ("<a><object><name>x</name></object></a>", "object 'x' has the corners .*; the numbers xmin, ymin, xmax, ymax"),
    ],
)
def test_voc_faults(tmp_path: Path, content: str, sentence: str) -> None:
    root = write_voc(tmp_path, 2)
    (root / "Annotations" / "image_0_000.xml").write_text(content)
    with pytest.raises(ValueError, match=rf"image_0_000\.xml: {sentence}"):
        open_dataset(root)


def test_voc_list_that_names_what_is_not_there(tmp_path: Path) -> None:
    root = write_voc(tmp_path, 2)
    for line, sentence in (
        ("gone", r"gone\.xml: no such file, but the list of split 'train'"),
        ("../x", "leaves the image"),
    ):
        (root / "ImageSets" / "Main" / "train.txt").write_text(line)
        with pytest.raises(ValueError, match=sentence):
            open_dataset(root)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("7 0.5 0.5 0.1 0.1", "has class 7, which is not among the 3 named classes: name it or remove the line"),
        ("0 0.5 0.5 0.1", r"has 3 values after the class; 4 \(cx cy w h\) or the pairs of a polygon were wanted"),
        (
            "0 64 48 20 20",
            "has the value 64; fractions of the image's size, 0..1, were wanted: divide x by the width",
        ),
        ("cat 0.5 0.5 0.1 0.1", "is 'cat 0.5 0.5 0.1 0.1'; numbers `class cx cy w h` were wanted: correct it"),
    ],
)
def test_yolo_faults(tmp_path: Path, line: str, sentence: str) -> None:
    root = write_yolo(tmp_path, 2)
    (root / "labels" / "train" / "image_0_000.txt").write_text(line)
    with pytest.raises(ValueError, match=rf"image_0_000\.txt: line 1 {sentence}"):
        open_dataset(root)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("names: [a\ntrain: images", "not valid YAML"),
        ("train: images/train", "no list 'names' in it; the class names were wanted there"),
        ("train: images/train\nnc: 2\nnames: [red, green, blue]", "nc is 2 but there are 3 names; correct one of them"),
        ("train: /tmp\nnames: [red]", "'/tmp' was not found below .* correct the path"),
        ("train: ../../elsewhere\nnames: [red]", "was not found below .* correct the path"),
        ("names: [red]", "neither train nor val is named; write  train: images/train"),
    ],
)
def test_wrong_yaml(tmp_path: Path, text: str, sentence: str) -> None:
    root = write_yolo(tmp_path / "set", 1)
    (root / "data.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"data\.yaml: .*{sentence}"):
        open_dataset(root)


def test_folders_without_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such folder; a data set was wanted there, COCO .* check the path$"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no data set was found; wanted is COCO .* check the folder$"):
        open_dataset(tmp_path)
    with pytest.raises(
        ValueError, match=r"split 'val' was wanted, there is train: name one of these; holdout=0.2 makes"
    ):
        open_dataset(write_coco(tmp_path, 1), "val")
