"""Segmentation IoU: by hand, against independent implementations, streamed in parts, on real masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torchmetrics.functional.classification import multiclass_jaccard_index

from torso.evaluation.segmentation import ClassMaps, OverlappingMasks, mask_iou

NAMES = ("sky", "road", "car", "never")


def test_class_maps_by_hand() -> None:
    evaluated = ClassMaps(NAMES)
    truth = np.array([[0, 0, 1, 1], [0, 2, 2, 255]])
    found = np.array([[0, 1, 1, 1], [0, 2, 0, 2]])  # the ignored pixel says car
    evaluated.add(truth, found)
    scores = evaluated.compute()
    np.testing.assert_allclose(scores.iou[:3], [2 / 4, 2 / 3, 1 / 2])
    assert np.isnan(scores.iou[3])
    assert scores.mIoU == pytest.approx((2 / 4 + 2 / 3 + 1 / 2) / 3)
    assert scores.accuracy == 5 / 7
    assert scores.counts.sum() == 7
    assert "never      -" in str(scores)


def test_the_background_is_left_out_of_the_iou_alone() -> None:
    """What is missed or invented beside it still costs the other classes, and its pixels are right or wrong ones."""
    truth, found = np.array([[0, 0, 0, 1], [0, 0, 1, 1]]), np.array([[0, 0, 1, 1], [0, 0, 0, 1]])
    scores = []
    for background in (None, 0):
        evaluated = ClassMaps(["bg", "x"], background=background)
        evaluated.add(truth, found)
        scores.append(evaluated.compute())
    whole, left = scores
    np.testing.assert_allclose(whole.iou, [4 / 6, 2 / 4])
    assert whole.mIoU == pytest.approx((4 / 6 + 2 / 4) / 2)
    np.testing.assert_array_equal(left.iou, [np.nan, 2 / 4])
    assert left.mIoU == 2 / 4
    assert left.accuracy == whole.accuracy == 6 / 8
    np.testing.assert_array_equal(left.counts, whole.counts)
    assert "bg      -" in str(left)
    for background in (-1, 2):
        with pytest.raises(ValueError, match=f"background={background} is no class; a number of 0..1 was wanted"):
            ClassMaps(["bg", "x"], background=background)
    with pytest.raises(ValueError, match="background=0 would leave out the only class"):
        ClassMaps(["bg"], background=0)


def test_a_class_that_is_only_predicted_has_iou_zero() -> None:
    evaluated = ClassMaps(NAMES, ignore=None)
    evaluated.add(np.zeros((2, 2), dtype=np.uint8), np.array([[0, 0], [0, 3]]))
    np.testing.assert_allclose(evaluated.compute().iou, [3 / 4, np.nan, np.nan, 0])


def test_streamed_in_parts_and_merged_is_all_at_once_and_torchmetrics_agrees() -> None:
    rng = torch.Generator().manual_seed(0)
    truth, found = (torch.randint(0, 4, (6, 20, 30), generator=rng) for _ in range(2))
    found = torch.where(torch.rand(found.shape, generator=rng) < 0.6, truth, found)
    truth[:, :3] = 255
    whole, parts, other = ClassMaps(NAMES), ClassMaps(NAMES), ClassMaps(NAMES)
    whole.add(truth, found)
    for i in range(4):
        parts.add(truth[i].to(torch.uint8), found[i].numpy())
    other.add(truth[4:], found[4:])
    parts.merge([other.counts])
    assert np.array_equal(whole.counts, parts.counts)
    theirs = multiclass_jaccard_index(found, truth, num_classes=4, ignore_index=255, average="none")
    np.testing.assert_allclose(whole.compute().iou, theirs.numpy(), rtol=1e-6)


def test_overlapping_masks_against_loops() -> None:
    rng = np.random.default_rng(0)
    truth, found = rng.random((2, 5, 4, 9, 7)) < 0.4
    ignore = rng.random((5, 9, 7)) < 0.2
    evaluated, again = OverlappingMasks(NAMES), OverlappingMasks(NAMES)
    evaluated.add(truth[:3], found[:3], ignore[:3])
    for one in range(3, 5):
        again.add(truth[one], torch.from_numpy(found[one]), ignore[one])
    evaluated.merge([again])
    scores = evaluated.compute()
    for k in range(4):
        a, b = truth[:, k][~ignore], found[:, k][~ignore]
        assert scores.iou[k] == pytest.approx((a & b).sum() / (a | b).sum())
    right = (truth == found).transpose(0, 2, 3, 1)[~ignore]
    assert scores.accuracy == pytest.approx(right.mean())


def test_mask_iou_is_pycocotools() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((5, 24, 31)) < 0.3, rng.random((7, 24, 31)) < 0.6
    b[0] = False
    a[0] = False
    crowd = np.arange(7) % 2 == 1
    rle = [[coco_mask.encode(np.asfortranarray(m.astype(np.uint8))) for m in masks] for masks in (a, b)]
    for flags in (None, crowd):
        theirs = coco_mask.iou(rle[0], rle[1], [0] * 7 if flags is None else flags.astype(int).tolist())
        np.testing.assert_allclose(mask_iou(a, b, crowd=flags).numpy()[1:], theirs[1:], rtol=1e-6)
    assert mask_iou(a, b)[0, 0] == 0


def test_nothing_evaluated_is_nan() -> None:
    evaluated = ClassMaps(NAMES)
    evaluated.add(np.full((3, 3), 255), np.zeros((3, 3), dtype=np.int64))
    assert np.isnan(evaluated.compute().mIoU)
    assert np.isnan(evaluated.compute().accuracy)
    assert np.isnan(OverlappingMasks(NAMES).compute().mIoU)


@pytest.mark.parametrize(
    ("truth", "found", "said"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), "resize the prediction"),
        (np.full((2, 2), 4), np.zeros((2, 2), int), "truth has the label 4"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), "prediction has the label -1"),
        (np.zeros((2, 2), int), np.zeros((2, 2)), "take the argmax"),
    ],
)
def test_maps_that_do_not_fit_are_refused(truth: np.ndarray, found: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ClassMaps(NAMES).add(truth, found)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"is the class 'sky'.*background=0 leaves a class out of the mean"):
        ClassMaps(NAMES, ignore=0)
    with pytest.raises(ValueError, match="different names"):
        ClassMaps(("a", "a"))
    with pytest.raises(ValueError, match="bool mask"):
        mask_iou(np.zeros((1, 2, 2)), np.zeros((1, 2, 2), dtype=bool))
    with pytest.raises(ValueError, match=r"\[4, h, w\]"):
        OverlappingMasks(NAMES).add(np.zeros((3, 2, 2), dtype=bool), np.zeros((3, 2, 2), dtype=bool))


def test_real_street_scenes(shared_data: Path) -> None:
    """A truth moved by two pixels loses little of the road and much of the poles."""
    files = sorted((shared_data / "camvid" / "masks").rglob("*.png"))[:8]
    assert files
    names = ("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bike")
    same, moved = ClassMaps(names, ignore=11), ClassMaps(names, ignore=11)
    for file in files:
        truth = np.array(Image.open(file))
        same.add(truth, np.where(truth == 11, 0, truth))
        shifted = np.roll(truth, 2, axis=1)
        moved.add(truth, np.where(shifted == 11, 0, shifted))
    assert same.compute().mIoU == same.compute().accuracy == 1.0
    iou = moved.compute().iou
    assert iou[3] > 0.95
    assert iou[2] < 0.6
