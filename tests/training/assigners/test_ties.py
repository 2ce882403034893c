"""Who wins a prior that two ground truths claim alike, and that targets in chunks are assigned as if together."""

from __future__ import annotations

import pytest
import torch

from torso.data.targets import Targets
from torso.geometry.priors.anchors import Anchors
from torso.training.assigners import _base, atss, max_iou
from torso.training.assigners.atss import ATSSAssigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.types import Priors


def squares() -> Priors:
    return Anchors([(8, 8), (16, 16)], octave_scales=1, ratios=(1.0,))([(16, 16), (8, 8)], (128, 128))


def make_targets(boxes: torch.Tensor) -> Targets:
    on = torch.ones(boxes.shape[:2], dtype=torch.bool)
    return Targets(boxes, torch.zeros(boxes.shape[:2], dtype=torch.long), on, ~on)


def test_atss_gives_a_prior_to_the_first_of_equal_truths() -> None:
    box = torch.tensor([20.0, 20.0, 60.0, 70.0])
    target = ATSSAssigner()(squares(), make_targets(torch.stack([box, box])[None])).target
    assert (target >= 0).any()
    assert not (target == 1).any()


@pytest.mark.parametrize("assigner", [ATSSAssigner(), MaxIoUAssigner(), MaxIoUAssigner(rescue_learns="rescued")])
def test_chunks_change_nothing(assigner: ATSSAssigner | MaxIoUAssigner, monkeypatch: pytest.MonkeyPatch) -> None:
    corner = torch.rand(2, 2 * _base.CHUNK + 5, 2, generator=torch.Generator().manual_seed(0)) * 90
    targets = make_targets(torch.cat([corner, corner + 20], dim=-1))
    chunked = assigner(squares(), targets).target
    for module in (atss, max_iou):
        monkeypatch.setattr(module, "CHUNK", 1000)
    assert torch.equal(assigner(squares(), targets).target, chunked)


def test_a_rescued_prior_learns_what_it_is_told_to() -> None:
    """The anchor about (64, 64) fits the first target well, and is the best that the second has, if a poor one."""
    prior = squares()
    only = Priors(*(f[8 * 16 + 8][None] for f in prior[:3]), ((1, 1, 1),))
    targets = make_targets(torch.tensor([[[48.0, 48.0, 80.0, 80.0], [76.0, 76.0, 96.0, 96.0]]]))
    assert MaxIoUAssigner()(only, targets).target.item() == 0
    assert MaxIoUAssigner(rescue_learns="rescued")(only, targets).target.item() == 1
    assert MaxIoUAssigner(rescue=False)(only, targets).target.item() == 0
