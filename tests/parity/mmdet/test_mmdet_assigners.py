"""SimOTA, task-aligned assignment, the YOLO code and the losses for soft targets beside mmdetection's."""

from __future__ import annotations

from mmdet_peer import CLASSES, SIZE_HW, InstanceData, assert_equal, target_sets

# the stand-ins for compiled operations must be there before mmdet is imported
# isort: split
import pytest
import torch
import torch.nn.functional as F
from mmdet.models.losses import (
    GHMC,
    DistributionFocalLoss,
    QualityFocalLoss,
    VarifocalLoss,
)
from mmdet.models.losses import (
    BalancedL1Loss as PeerBalancedL1Loss,
)
from mmdet.models.task_modules.assigners import SimOTAAssigner as PeerSimOTAAssigner
from mmdet.models.task_modules.assigners import TaskAlignedAssigner as PeerTaskAlignedAssigner
from mmdet.models.task_modules.coders import YOLOBBoxCoder
from torch import Tensor

from torso.data.targets import Targets
from torso.geometry.coders.yolo import YOLOCoder
from torso.geometry.priors.anchors import Anchors
from torso.geometry.priors.points import Points
from torso.training.assigners.simota import SimOTAAssigner
from torso.training.assigners.task_aligned import TaskAlignedAssigner
from torso.training.losses.balanced_l1 import BalancedL1Loss
from torso.training.losses.dfl import DFLLoss
from torso.training.losses.ghm import GHMLoss
from torso.training.losses.qfl import QFLLoss
from torso.training.losses.vfl import VFLLoss
from torso.types import Priors

STRIDES = (8, 16, 32)
SETS = target_sets()


def points(offset: float = 0.5) -> Priors:
    sizes = [(SIZE_HW[0] // s, SIZE_HW[1] // s) for s in STRIDES]
    return Points([(s, s) for s in STRIDES], offset=offset)(sizes, SIZE_HW)


def predictions(priors: Priors, targets: Targets) -> tuple[Tensor, Tensor]:
    """Half of the boxes about a target, as a network in the middle of its training has them."""
    g = torch.Generator().manual_seed(3)
    shape = (2, priors.centers_xy.shape[0])
    about = torch.randint(0, targets.boxes.shape[1], shape, generator=g)
    target_boxes = targets.boxes.gather(1, about[..., None].expand(-1, -1, 4))
    own = priors.boxes.expand(2, -1, -1) + torch.tensor([-20.0, -20, 20, 20])
    boxes = (
        torch.where(torch.rand(*shape, 1, generator=g) < 0.5, target_boxes, own)
        + torch.randn(*shape, 4, generator=g) * 5
    )
    return boxes, torch.rand(*shape, CLASSES, generator=g) ** 2


def wanted(result: InstanceData) -> Tensor:
    """0 is background there; here row 0 is a crowd and row 1 the first real target."""
    return torch.where(result.gt_inds > 0, result.gt_inds, -1)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("offset", [0.5, 0.0])
def test_simota(name: str, offset: float) -> None:
    targets, peers = SETS[name]
    priors = points(offset)
    boxes, scores = predictions(priors, targets)
    assignment = SimOTAAssigner()(priors, targets, boxes, scores)
    assert assignment.quality is not None
    for i, instance in enumerate(peers):
        places = torch.cat([points().centers_xy, priors.strides_xy], dim=1)
        said = InstanceData(bboxes=boxes[i], scores=scores[i].sqrt(), priors=places)
        result = PeerSimOTAAssigner(center_radius=2.5).assign(said, instance)
        assert torch.equal(assignment.target[i], wanted(result))
        assert (result.gt_inds > 0).any() == (len(instance.labels) > 0)
        fit = torch.where(result.gt_inds > 0, result.max_overlaps, 0.0)
        assert_equal(f"simota quality, {name}", assignment.quality[i], fit)


@pytest.mark.parametrize("name", SETS)
def test_task_aligned(name: str) -> None:
    targets, peers = SETS[name]
    priors = points()
    boxes, scores = predictions(priors, targets)
    assignment = TaskAlignedAssigner(alpha=1.0, beta=6.0, top=13)(priors, targets, boxes, scores)
    assert assignment.quality is not None
    for i, instance in enumerate(peers):
        said = InstanceData(bboxes=boxes[i], scores=scores[i], priors=priors.boxes)
        result = PeerTaskAlignedAssigner(topk=13).assign(said, instance, alpha=1, beta=6)
        assert torch.equal(assignment.target[i], wanted(result))
        soft = torch.zeros_like(assignment.quality[i])
        for row in result.gt_inds[result.gt_inds > 0].unique():  # as TOODHead.get_targets scales them
            own = result.gt_inds == row
            metric = result.assign_metrics[own].to(soft)
            soft[own] = metric / (metric.max() + 10e-8) * result.max_overlaps[own].max()
        assert_equal(f"task_aligned quality, {name}", assignment.quality[i], soft)


def scores_and_truth() -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(4)
    labels = torch.randint(-1, CLASSES, (400,), generator=g)
    logits = torch.randn(400, CLASSES, generator=g, dtype=torch.float64) * 3
    return logits, labels, torch.rand(400, generator=g, dtype=torch.float64)


def test_soft_class_losses() -> None:
    logits, labels, quality = scores_and_truth()
    there = torch.where(labels >= 0, labels, CLASSES)
    score = torch.where(labels >= 0, quality, 0.0)
    peer = QualityFocalLoss(reduction="none")(logits, (there, score))
    assert_equal("qfl", QFLLoss()(logits, labels, quality), peer)
    soft = F.one_hot(there, CLASSES + 1)[:, :CLASSES] * score[:, None]
    assert_equal("vfl", VFLLoss().per_column(logits, labels, quality), VarifocalLoss(reduction="none")(logits, soft))


@pytest.mark.parametrize("bins", [10, 30])
def test_ghm(bins: int) -> None:
    logits, labels, _ = scores_and_truth()
    used = torch.rand(400, generator=torch.Generator().manual_seed(5)) < 0.8
    target = F.one_hot(torch.where(labels >= 0, labels, CLASSES), CLASSES + 1)[:, :CLASSES]
    weight = used[:, None].expand_as(target).float()
    peer = GHMC(bins=bins)(logits.float(), target, weight)
    mine = GHMLoss(bins=bins).masked(logits.float(), labels, None, used).sum() / (used.sum() * CLASSES)
    assert_equal(f"ghm, {bins} bins", mine, peer)


def test_losses_on_boxes() -> None:
    g = torch.Generator().manual_seed(6)
    logits, target = torch.randn(50, 4, 17, generator=g), torch.rand(50, 4, generator=g) * 15.9
    peer = DistributionFocalLoss(reduction="none")(logits.view(-1, 17), target.view(-1)).view(50, 4).mean(-1)
    assert_equal("dfl", DFLLoss()(logits, target), peer)
    a, b = torch.randn(60, 4, generator=g) * 2, torch.randn(60, 4, generator=g)
    peer = PeerBalancedL1Loss(alpha=0.5, gamma=1.5, beta=1.0, reduction="none")(a, b).sum(-1)
    assert_equal("balanced l1", BalancedL1Loss()(a, b), peer)


def test_yolo_codes() -> None:
    priors = Anchors([(32, 32)], octave_scales=1, base_scale=3.0, offset=0.5)([(8, 10)], SIZE_HW)
    g = torch.Generator().manual_seed(7)
    codes = torch.randn(len(priors.boxes), 4, generator=g)
    activated = torch.cat([codes[:, :2].sigmoid(), codes[:, 2:]], dim=1)
    peer = YOLOBBoxCoder().decode(priors.boxes, activated, 32)
    assert_equal("yolo boxes", YOLOCoder().decode(codes, priors), peer)
