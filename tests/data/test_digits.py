"""The demo data set: the same bytes each time, true boxes, disjoint splits, and nobody's files overwritten."""

from __future__ import annotations

import builtins
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torso.data.digits import NAMES, _ink, _sources, _tight, build_digits
from torso.data.layout import open_dataset

pytest.importorskip("sklearn")
SMALL: dict[str, Any] = {"train": 12, "val": 5, "size_hw": (128, 160), "height_px": (20, 50)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits") / "set"
    build_digits(root, **SMALL)
    return root


def sums(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def truth(root: Path, split: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
    return loaded


def test_same_bytes_each_time_and_other_images_from_another_seed(folder: Path, tmp_path: Path) -> None:
    build_digits(tmp_path / "again", **SMALL)
    assert sums(tmp_path / "again") == sums(folder)
    build_digits(tmp_path / "other", **{**SMALL, "seed": 1})
    assert sums(tmp_path / "other")["train/train_0000.jpg"] != sums(folder)["train/train_0000.jpg"]


def test_more_images_leave_the_first_ones_as_they_are(folder: Path, tmp_path: Path) -> None:
    build_digits(tmp_path / "more", **{**SMALL, "train": 14})
    more = sums(tmp_path / "more")
    assert all(more[name] == value for name, value in sums(folder).items() if name.startswith("train/"))


def test_coco_layout_and_plain_truth(folder: Path) -> None:
    for split, count in (("train", 12), ("val", 5)):
        found = truth(folder, split)
        assert [one["name"] for one in found["categories"]] == list(NAMES)
        assert len(found["images"]) == count == len(list((folder / split).glob("*.jpg")))
        for one in found["annotations"]:
            x, y, w, h = one["bbox"]
            assert x >= 0
            assert y >= 0
            assert x + w <= 160
            assert y + h <= 128
            assert one["area"] == w * h > 0
            assert 0.6 <= one["visibility"] <= 1
        with Image.open(folder / split / found["images"][0]["file_name"]) as image:
            assert image.size == (160, 128)


def test_torsos_own_reader_finds_it(folder: Path) -> None:
    annotations = open_dataset(folder, "val")
    assert annotations.class_names == NAMES
    assert len(annotations) == 5
    assert annotations.path(0).is_file()
    assert len(annotations.boxes) == len(truth(folder, "val")["annotations"])


def test_heights_stay_in_their_range(folder: Path) -> None:
    heights = [one["bbox"][3] for one in truth(folder, "train")["annotations"] if one["visibility"] == 1]
    assert min(heights) >= 19
    assert max(heights) <= 51


def test_the_box_is_the_ink() -> None:
    """On its own stamp a digit reaches all four sides of its box: within a pixel of the stamp's border."""
    source = _sources()["train"]
    for row in range(5):
        stamp = _ink(source.digits[row], 40.0, 15.0)
        x, y, w, h = _tight(stamp > 0.5)
        assert abs(h - 40) <= 1
        assert max(x, y, stamp.shape[1] - x - w, stamp.shape[0] - y - h) <= 2


def test_splits_share_neither_digits_nor_photo_regions() -> None:
    sources = _sources()
    train = {one.tobytes() for one in sources["train"].digits}
    assert len(sources["train"].digits) + len(sources["val"].digits) == 1797
    assert len(train & {one.tobytes() for one in sources["val"].digits}) <= 5  # the set itself holds equal drawings
    widths = [a.shape[1] + b.shape[1] for a, b in zip(sources["train"].photos, sources["val"].photos, strict=True)]
    assert widths == [640, 640]


def test_covered_ink_shrinks_the_box() -> None:
    from torso.data.digits import _Digit, _visible

    def block(x1: int, x2: int) -> _Digit:
        ink = np.zeros((10, 30), dtype=np.bool_)
        ink[2:8, x1:x2] = True
        return _Digit((slice(0, 10), slice(0, 30)), ink.astype(np.float32), ink, 0)

    below, above = _visible([block(0, 20), block(15, 30)])
    assert below[:2] == ((0, 2, 15, 6), 0.75)
    assert above[:2] == ((15, 2, 15, 6), 1.0)


def test_a_complete_set_is_reused_untouched(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    build_digits(folder, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    build_digits(tmp_path, **{**SMALL, "train": 1, "val": 1})
    assert (tmp_path / "digits.json").is_file()


def test_foreign_and_other_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match="nothing was written"):
        build_digits(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(ValueError, match="other parameters"):
        build_digits(folder, **{**SMALL, "seed": 3})


@pytest.mark.parametrize("harm", ["image", "truth"])
def test_a_damaged_set_is_refused(tmp_path: Path, harm: str) -> None:
    root = tmp_path / "set"
    few = {**SMALL, "train": 1, "val": 1}
    build_digits(root, **few)
    if harm == "image":
        (root / "val" / "val_0000.jpg").unlink()
    else:
        (root / "annotations" / "instances_val.json").write_text("{}")
    with pytest.raises(ValueError, match=r"lacks 1 images|was changed"):
        build_digits(root, **few)


def test_an_interrupted_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        build_digits(tmp_path / "set", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_without_scikit_learn_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'torso\[demo\]'"):
        build_digits(tmp_path / "set", **SMALL)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"height_px": (20, 200)}, "height_px"),
        ({"per_image": (3, 2)}, "per_image"),
        ({"train": 0}, "at least one image"),
        ({"overlap": 2.0}, "must lie in 0..1"),
    ],
)
def test_impossible_parameters_are_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build_digits(tmp_path / "set", **{**SMALL, **change})
