"""Detections: a checked record that converts without loss and never changes."""

from __future__ import annotations

import builtins
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from torso.inference.detections import Detection, Detections

NAMES = ("cat", "dog", "bird")


def some(n: int = 4, masks: bool = False, path: str | None = None) -> Detections:
    generator = torch.Generator().manual_seed(n)
    corner = torch.rand(n, 2, generator=generator) * 50
    boxes = torch.cat([corner, corner + torch.rand(n, 2, generator=generator) * 40 + 1], dim=1)
    drawn = torch.zeros(n, 100, 120, dtype=torch.bool)
    for row, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):
        drawn[row, y1:y2, x1:x2] = True
    return Detections(
        boxes,
        torch.linspace(0.9, 0.1, n),
        torch.arange(n) % 3,
        NAMES,
        masks=drawn if masks else None,
        variance=torch.ones(n, 4),
        image_size_hw=(100, 120),
        path=path,
    )


def test_length_rows_and_iteration() -> None:
    found = some(4)
    assert len(found) == 4
    rows = list(found)
    assert isinstance(rows[0], Detection)
    assert [one.name for one in rows] == ["cat", "dog", "bird", "cat"] == [found.class_name(n) for n in range(4)]
    assert found[-1].score == pytest.approx(0.1)
    assert torch.equal(found[1].box, found.boxes[1])
    with pytest.raises(IndexError):
        found[4]


@pytest.mark.parametrize(
    "rows",
    [
        slice(1, 3),
        torch.tensor([False, True, True, False]),
        np.array([False, True, True, False]),
        [1, 2],
        torch.tensor([1, 2]),
    ],
)
def test_selection_keeps_all_fields_aligned(rows: Any) -> None:
    found = some(4, masks=True)
    part = found[rows]
    assert len(part) == 2
    for name in ("boxes", "scores", "labels", "masks", "variance"):
        assert torch.equal(getattr(part, name), getattr(found, name)[1:3])
    assert part.image_size_hw == (100, 120)
    assert len(found) == 4


def test_above_and_of_class() -> None:
    found = some(5)
    assert found.above(0.45).scores.tolist() == pytest.approx([0.9, 0.7, 0.5])
    assert found.of_class("dog").labels.tolist() == [1, 1]
    assert len(found.above(0.99)) == 0
    assert len(found[[]]) == 0
    with pytest.raises(ValueError, match="no class 'cow'"):
        found.of_class("cow")


def test_numpy_gives_copies() -> None:
    found = some(2)
    before = found.boxes.clone()
    found.numpy()["boxes"][:] = 0
    assert torch.equal(found.boxes, before)
    assert set(found.numpy()) == {"boxes", "scores", "labels", "variance"}
    assert found.to("cpu").boxes is not None


@pytest.mark.parametrize("masks", [False, True])
def test_coco_round_trip(masks: bool) -> None:
    found = some(6, masks=masks)
    results = found.to_coco(image_id=42, category_ids=(7, 3, 90))
    assert [one["category_id"] for one in results] == [7, 3, 90, 7, 3, 90]
    assert all(one["image_id"] == 42 and one["bbox"][2] > 0 for one in results)
    back = Detections.from_coco(results[::-1], NAMES, (7, 3, 90), image_size_hw=(100, 120))
    assert torch.equal(back.boxes, found.boxes)
    assert torch.equal(back.scores, found.scores)
    assert torch.equal(back.labels, found.labels)
    if masks:
        assert back.masks is not None
        assert found.masks is not None
        assert torch.equal(back.masks, found.masks)


def test_coco_is_not_rounded_and_ids_default_to_one_based() -> None:
    third = torch.tensor([[1 / 3, 0.1, 10.7, 20.9]])
    found = Detections(third, torch.tensor([0.5]), torch.tensor([1]), NAMES)
    (one,) = found.to_coco(image_id=1)
    assert one["category_id"] == 2
    assert one["bbox"][0] == float(third[0, 0])
    assert one["bbox"][2] == float(third[0, 2]) - float(third[0, 0])


def test_coco_of_nothing_and_bad_ids() -> None:
    empty = Detections.empty(NAMES)
    assert empty.to_coco(1) == []
    assert len(Detections.from_coco([], NAMES)) == 0
    with pytest.raises(ValueError, match="2 category_ids for 3 classes"):
        some().to_coco(1, (1, 2))
    with pytest.raises(ValueError, match="are not among"):
        Detections.from_coco(some().to_coco(1), NAMES, (5, 6, 7))
    with pytest.raises(ValueError, match="results of 2 images"):
        Detections.from_coco(some().to_coco(1) + some().to_coco(2), NAMES)


def test_torchvision_form() -> None:
    assert set(some().to_torchvision()) == {"boxes", "scores", "labels"}
    assert "masks" in some(masks=True).to_torchvision()


def test_supervision_form(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = types.ModuleType("supervision")
    stand_in.Detections = lambda **fields: fields  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", stand_in)
    fields = some(4).to_supervision()
    assert fields["xyxy"].shape == (4, 4)
    assert fields["data"]["class_name"].tolist() == ["cat", "dog", "bird", "cat"]
    assert len(Detections.empty(NAMES).to_supervision()["data"]["class_name"]) == 0


def test_supervision_accepts_it() -> None:
    supervision = pytest.importorskip("supervision")
    assert isinstance(some(4, masks=True).to_supervision(), supervision.Detections)


def test_supervision_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "supervision":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'torso\[supervision\]'"):
        some().to_supervision()


def test_plot_and_save(tmp_path: Path) -> None:
    source = tmp_path / "image.png"
    Image.new("RGB", (120, 100), (90, 90, 90)).save(source)
    before = source.read_bytes()
    found = some(4, path=str(source))
    assert found.plot().size == found.plot(Image.open(source)).size
    out = found.save(tmp_path / "deep" / "drawn.jpg")
    with Image.open(out) as drawn:
        assert drawn.format == "JPEG"
    with pytest.raises(ValueError, match="would destroy it"):
        found.save(source)
    assert source.read_bytes() == before
    with pytest.raises(ValueError, match="do not know their file"):
        some(4).plot()


def test_repr_reads_well() -> None:
    text = repr(some(7, path="/data/a/street.jpg"))
    assert text.startswith("Detections(7 in street.jpg (120x100 px): cat 0.90 at [")
    assert text.endswith(", and 2 more)")
    assert repr(Detections.empty(NAMES)) == "Detections(0)"


BOX = torch.tensor([[0.0, 0, 5, 5], [0.0, 0, 5, 5]])
SCORES = torch.tensor([0.9, 0.5])
GOOD: dict[str, Any] = {"boxes": BOX, "scores": SCORES, "labels": torch.tensor([0, 1]), "names": NAMES}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"boxes": BOX[:1]}, r"boxes is torch.float32 \[1, 4\]; wanted torch.float32 \[2, 4\]"),
        ({"boxes": BOX.double()}, "boxes is torch.float64"),
        ({"boxes": BOX[:, [2, 1, 0, 3]]}, "x2 < x1"),
        ({"boxes": BOX * float("nan")}, "not finite"),
        ({"scores": torch.tensor([0.5, 0.9])}, "falling order"),
        ({"scores": torch.tensor([1.5, 0.9])}, "wanted 0..1"),
        ({"scores": torch.tensor([float("nan"), 0.9])}, "wanted 0..1"),
        ({"labels": torch.tensor([0, 3])}, "labels run from 0 to 3"),
        ({"labels": torch.tensor([0.0, 1.0])}, "wanted torch.int64"),
        ({"names": ["cat", "dog"]}, "wanted a tuple"),
        ({"masks": torch.zeros(2, 5, 5)}, "wanted torch.bool"),
        ({"masks": torch.zeros(2, 5, 5, dtype=torch.bool), "image_size_hw": (6, 5)}, r"wanted torch.bool \[2, 6, 5\]"),
        ({"variance": torch.zeros(2, 3)}, "variance is"),
    ],
)
def test_what_does_not_hold_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Detections(**{**GOOD, **change})


def test_it_is_frozen() -> None:
    with pytest.raises(AttributeError):
        some().names = ()  # type: ignore[misc]
