"""What each term of a dense criterion is divided by, where terms differ in it; and settings that nobody knows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from training.criteria.settings import dense

from torso.data.targets import Targets
from torso.geometry.coders.ltrb import LTRBCoder
from torso.geometry.coders.yolo import YOLOCoder
from torso.geometry.priors.anchors import Anchors
from torso.geometry.priors.points import Points
from torso.heads.dense import DenseHead
from torso.parts import PartError, part
from torso.training.assigners.fcos import FCOSAssigner
from torso.training.assigners.yolo_v3 import YOLOv3Assigner
from torso.training.assigners.yolo_v5 import YOLOv5Assigner
from torso.training.criteria.heatmap import HeatmapCriterion
from torso.training.losses.bce import BCELoss
from torso.training.losses.ghm import GHMLoss
from torso.training.losses.iou import CIoULoss, GIoULoss
from torso.types import DensePredictions, FeatureSpec, Images

SPECS = tuple(FeatureSpec(8, (s, s)) for s in (8, 16))
POINTS: dict[str, Any] = {"priors": part(Points), "coder": part(LTRBCoder), "quality": "box"}
CELLS: dict[str, Any] = {
    "priors": part(Anchors, base_scale=2.0, octave_scales=1, ratios=(0.5, 1.0, 2.0), offset=0.5), "quality": "box",
}  # fmt: skip
OWNERS = {
    "criterion": "DenseCriterion", "criterion.cls": "ClassificationTerm", "criterion.box": "BoxTerm",
    "criterion.quality": "QualityTerm",
}  # fmt: skip
OBJECTNESS: dict[str, Any] = {"cls.on": "positives", "quality.on": "used", "quality.target": "iou"}


def predictions(**head: Any) -> tuple[DenseHead, DensePredictions]:
    torch.manual_seed(0)
    made = DenseHead(SPECS, **{"num_classes": 3, "channels": 8, "tower": 1, "finest": 8, "coarsest": 16, **head})
    images = Images(torch.zeros(2, 3, 64, 64), torch.full((2, 2), 64.0), torch.ones(2, 4))
    raw = made([torch.randn(2, 8, 8, 8), torch.randn(2, 8, 4, 4)], images)
    return made, raw._replace(
        logits=torch.randn_like(raw.logits), codes=torch.randn_like(raw.codes), quality=torch.randn_like(raw.quality)
    )


def targets() -> Targets:
    boxes = torch.tensor([[[4.0, 4, 40, 36], [20, 20, 60, 60]], [[8, 10, 30, 50], [0, 0, 1, 1]]])
    valid = torch.tensor([[True, True], [True, False]])
    return Targets(boxes, torch.tensor([[0, 2], [1, 0]]), valid, torch.zeros_like(valid))


def terms(head: dict[str, Any], criterion: dict[str, Any]) -> dict[str, tuple[float, float]]:
    made, raw = predictions(**head)
    return {k: (t.total.item(), t.count.item()) for k, t in dense(criterion).terms(raw, targets(), made).items()}


def near(wanted: tuple[float, float]) -> Any:
    return pytest.approx(wanted, rel=1e-5)


def test_terms_by_image_and_by_positives_stand_side_by_side() -> None:
    rule: dict[str, Any] = {"assigner": part(FCOSAssigner), "box.loss": part(GIoULoss)}
    by_positives, by_image = terms(POINTS, rule), terms(POINTS, {**rule, "normaliser": "image"})
    for name in ("cls", "box", "quality"):
        assert by_positives[name][0] / by_positives[name][1] != pytest.approx(by_image[name][0] / 2, rel=1e-4)
    for first, second in (("positives", "image"), ("image", "positives")):
        mixed = terms(POINTS, {**rule, "normaliser": first, "quality.normaliser": second})
        of = {"positives": by_positives, "image": by_image}
        assert mixed["cls"] == near(of[first]["cls"])
        assert mixed["box"] == near(of[first]["box"])
        assert mixed["quality"] == near(of[second]["quality"])


def test_terms_with_counts_of_their_own_are_no_means_of_images() -> None:
    """A loss that weighs elements by each other, and boxes weighed by their quality."""
    rule: dict[str, Any] = {"assigner": part(FCOSAssigner), "cls.loss": part(GHMLoss), "box.loss": part(GIoULoss)}
    rule["box.weighting"] = "quality"
    by_positives, by_image = terms(POINTS, rule), terms(POINTS, {**rule, "normaliser": "image"})
    assert by_image["cls"] == near(by_positives["cls"])
    assert by_image["box"] == near(by_positives["box"])
    assert by_image["quality"] != near(by_positives["quality"])


@pytest.mark.parametrize(
    ("head", "assigner", "box_loss"),
    [
        ({**CELLS, "coder": part(YOLOCoder)}, part(YOLOv3Assigner), part(GIoULoss)),
        ({**CELLS, "coder": part(YOLOCoder, scale_xy=2.0, size="square")}, part(YOLOv5Assigner), part(CIoULoss)),
    ],
)
@pytest.mark.parametrize("per_level", [False, True])
def test_ghm_is_divided_by_the_elements_of_the_positives_where_they_alone_learn_classes(
    head: dict[str, Any], assigner: Any, box_loss: Any, per_level: bool
) -> None:
    made, raw = predictions(**head)
    rule: dict[str, Any] = {"assigner": assigner, "box.loss": box_loss, "per_level": per_level, **OBJECTNESS}
    criterion = dense({"cls.loss": part(GHMLoss, bins=1), **rule})
    got = criterion.terms(raw, targets(), made)
    positives = criterion.matches(raw, targets(), made).positive.sum()
    cls = [t for name, t in got.items() if name.endswith("cls")]
    assert float(sum(t.count for t in cls)) == float(positives) * 3
    plain = dense({"cls.loss": part(BCELoss), **rule}).terms(raw, targets(), made)
    for name, term in plain.items():
        if name.endswith("cls"):  # one bin weighs nothing: the mean of the elements
            torch.testing.assert_close(got[name].total, term.total)
            assert float(got[name].count) == float(term.count) * 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("normaliser", "positive"), ("quality.normaliser", "images"), ("cls.on", "positive"), ("cls.target", "soft"),
        ("box.weighting", "centerness"), ("quality.on", "all"), ("quality.target", "ious"), ("quality.loss", "l2"),
        ("crowd", "ignore"),
    ],
)  # fmt: skip
def test_settings_that_nobody_knows_are_refused(name: str, value: str) -> None:
    owner, _, argument = f"criterion.{name}".rpartition(".")
    with pytest.raises(PartError, match=rf"{OWNERS[owner]}\.{argument}: expected .*, got '{value}'"):
        dense({name: value})


def test_so_are_those_of_heatmaps() -> None:
    with pytest.raises(PartError, match=r"Criterion\.normaliser: expected one of 'objects', 'peaks', got 'object'"):
        HeatmapCriterion(normaliser="object")  # type: ignore[arg-type]
