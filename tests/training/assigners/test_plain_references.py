"""The batched assigners against the papers' rules written as plain loops over one image, on random batches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.geometry.boxes import iou_matrix
from torso.geometry.priors.anchors import Anchors
from torso.geometry.priors.points import Points
from torso.parts import PartError
from torso.training.assigners._base import CHUNK, Assigner
from torso.training.assigners.atss import ATSSAssigner
from torso.training.assigners.fcos import FCOSAssigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.types import Priors

STRIDES = [(8, 8), (16, 16), (32, 32)]
SIZES = [(9, 12), (5, 6), (3, 3)]


def anchors(**more: object) -> Priors:
    return Anchors(STRIDES, **{"octave_scales": 1, "ratios": (0.5, 1.0), "base_scale": 2.0, **more})(SIZES, (72, 96))


def points() -> Priors:
    return Points(STRIDES)(SIZES, (72, 96))


def random_targets(m: int, seed: int, images: int = 3) -> Targets:
    """Rows of every kind in any order: real, padding (wild boxes, which must not be read), crowd; one empty image."""
    g = torch.Generator().manual_seed(seed)
    xy = torch.rand(images, m, 2, generator=g) * torch.tensor([90.0, 66.0])
    boxes = torch.cat([xy, xy + 3 + 60 * torch.rand(images, m, 2, generator=g) ** 2], -1)
    valid = torch.rand(images, m, generator=g) < 0.6
    valid[-1] = False
    crowd = torch.rand(images, m, generator=g) < 0.2
    return Targets(boxes, torch.zeros(images, m, dtype=torch.int64), valid, crowd)


def real_rows(t: Targets, image: int) -> list[int]:
    return [j for j in range(t.valid.shape[1]) if t.valid[image, j] and not t.crowd[image, j]]


def plain_max_iou(
    priors: Priors, t: Targets, i: int, positive: float, negative: float, rescue: bool, above: float
) -> list[int]:
    rows = real_rows(t, i)
    n = priors.centers_xy.shape[0]
    if not rows:
        return [-1] * n
    iou = iou_matrix(priors.boxes, t.boxes[i, rows]).tolist()
    best_of_truth = [max(iou[p][j] for p in range(n)) for j in range(len(rows))]
    out = []
    for p in range(n):
        best = max(iou[p])
        answer = rows[iou[p].index(best)]
        saved = rescue and any(iou[p][j] == b and b > 0 and b >= above for j, b in enumerate(best_of_truth))
        out.append(answer if best >= positive or saved else -1 if best < negative else -2)
    return out


def plain_fcos(priors: Priors, t: Targets, i: int, radius: float) -> tuple[list[int], list[float]]:
    out, quality, level_of = [], [], []
    for level, (h, w, a) in enumerate(priors.levels):
        level_of += [level] * (h * w * a)
    for p, (x, y) in enumerate(priors.centers_xy.tolist()):
        stride = float(priors.strides_xy[p, 0])
        low = 0.0 if level_of[p] == 0 else 4 * stride
        high = math.inf if level_of[p] == len(priors.levels) - 1 else 8 * stride
        best, answer, centerness = math.inf, -1, 0.0
        for j in real_rows(t, i):
            x1, y1, x2, y2 = t.boxes[i, j].tolist()
            sides = (x - x1, y - y1, x2 - x, y2 - y)
            central = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < radius * stride
            if min(sides) > 0 and low < max(sides) <= high and (not radius or central):
                area = (x2 - x1) * (y2 - y1)
                if area < best:
                    best, answer = area, j
                    horizontal, vertical = sorted(sides[0::2]), sorted(sides[1::2])
                    centerness = math.sqrt(horizontal[0] / horizontal[1] * vertical[0] / vertical[1])
        out.append(answer)
        quality.append(centerness)
    return out, quality


def plain_atss(priors: Priors, t: Targets, i: int, k: int) -> list[int]:
    n = priors.centers_xy.shape[0]
    best, out = [-1.0] * n, [-1] * n
    for j in real_rows(t, i):
        x1, y1, x2, y2 = t.boxes[i, j].tolist()
        center = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2])
        candidates, start = [], 0
        for h, w, a in priors.levels:
            distance = (priors.centers_xy[start : start + h * w * a] - center).square().sum(-1)
            candidates += (distance.topk(min(k, h * w * a), largest=False).indices + start).tolist()
            start += h * w * a
        ious = iou_matrix(priors.boxes[candidates], t.boxes[i, j : j + 1])[:, 0].double()
        threshold = float(ious.mean() + ious.std())
        for p, iou in zip(candidates, ious.tolist(), strict=True):
            x, y = priors.centers_xy[p].tolist()
            inside = min(x - x1, y - y1, x2 - x, y2 - y) > 0.01
            if iou >= threshold and inside and iou > best[p]:
                best[p], out[p] = iou, j
    return out


@pytest.mark.parametrize("m", [1, 7, CHUNK + 9])
@pytest.mark.parametrize(
    "settings", [(0.5, 0.4, True, 0.0), (0.7, 0.3, True, 0.3), (0.5, 0.5, False, 0.0)], ids=["retina", "rpn", "rcnn"]
)
def test_max_iou(settings: tuple[float, float, bool, float], m: int) -> None:
    positive, negative, rescue, above = settings
    assigner = MaxIoUAssigner(positive=positive, negative=negative, rescue=rescue, rescue_above=above)
    t, priors = random_targets(m, seed=m), anchors()
    got = assigner(priors, t).target
    for i in range(3):
        assert got[i].tolist() == plain_max_iou(priors, t, i, positive, negative, rescue, above)


@pytest.mark.parametrize("m", [1, 7, CHUNK + 9])
@pytest.mark.parametrize("radius", [0.0, 1.5])
def test_fcos(radius: float, m: int) -> None:
    t, priors = random_targets(m, seed=m), points()
    got = FCOSAssigner(radius=radius)(priors, t)
    assert got.quality is not None
    for i in range(3):
        target, quality = plain_fcos(priors, t, i, radius)
        assert got.target[i].tolist() == target
        torch.testing.assert_close(got.quality[i], torch.tensor(quality), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("m", [1, 7, CHUNK + 9])
def test_atss(m: int) -> None:
    # one anchor a location, off the grid's symmetry: with several at a point the nearest nine would be a matter of ties
    t, priors = random_targets(m, seed=m), anchors(ratios=(1.0,))
    got = ATSSAssigner(candidates=9)(priors, t).target
    for i in range(3):
        assert got[i].tolist() == plain_atss(priors, t, i, 9)
    assert (got >= 0).any() or m == 1


def test_atss_by_hand() -> None:
    """Two levels of 4 and 1 anchors, k = 4; the numbers are worked out below."""
    priors = Anchors([(8, 8), (16, 16)], octave_scales=1, ratios=(1.0,), base_scale=2.0, offset=0.5)(
        [(2, 2), (1, 1)], (16, 16)
    )
    # anchors of side 16 at (4|12, 4|12) and of side 32 at (8, 8); target (0, 0, 16, 16)
    # IoU: overlap of (-4..12)^2 with it is 144, union 256 + 256 - 144 = 368: 0.3913, four times; 256 / 1024 = 0.25 once
    # mean 0.36304, unbiased deviation 0.06319, threshold 0.42623: none reaches it
    target_boxes = Targets(
        torch.tensor([[[0.0, 0, 16, 16]]]),
        torch.zeros(1, 1, dtype=torch.int64),
        torch.ones(1, 1, dtype=torch.bool),
        torch.zeros(1, 1, dtype=torch.bool),
    )
    assert ATSSAssigner(candidates=4)(priors, target_boxes).target.tolist() == [[-1, -1, -1, -1, -1]]
    # target (0, 0, 9, 9): 81 / 256 for the first, 12 * 12 anchors shifted by 8: (4..9) x (-4..12): 45 / 292 twice,
    # 25 / 312 once, 81 / 1024 once: mean 0.15675, deviation 0.09686, threshold 0.25361: only the first, 0.31641
    target_boxes = target_boxes._replace(boxes=torch.tensor([[[0.0, 0, 9, 9]]]))
    assert ATSSAssigner(candidates=4)(priors, target_boxes).target.tolist() == [[0, -1, -1, -1, -1]]


def test_fcos_closed_form() -> None:
    """A centred square of side 48 on a stride-8 level: every point inside learns it; centerness from its distances."""
    target_boxes = Targets(
        torch.tensor([[[8.0, 8, 56, 56]]]),
        torch.zeros(1, 1, dtype=torch.int64),
        torch.ones(1, 1, dtype=torch.bool),
        torch.zeros(1, 1, dtype=torch.bool),
    )
    got = FCOSAssigner()(Points([(8, 8)])([(8, 8)], (64, 64)), target_boxes)
    grid = got.target.view(8, 8)
    assert (grid[1:7, 1:7] == 0).all()
    assert int((grid == 0).sum()) == 36
    assert got.quality is not None
    assert float(got.quality.view(8, 8)[1, 1]) == pytest.approx(4 / 44)  # l = t = 4, r = b = 44
    assert float(got.quality.view(8, 8)[1, 3]) == pytest.approx(math.sqrt(20 / 28 * 4 / 44))


@pytest.mark.parametrize(
    "assigner",
    [MaxIoUAssigner(), FCOSAssigner(), FCOSAssigner(radius=1.5), ATSSAssigner()],
    ids=lambda a: type(a).__name__,
)
class TestEveryAssigner:
    def test_rows_that_are_not_real_change_nothing(self, assigner: Assigner) -> None:
        priors = anchors(ratios=(1.0,))
        few = random_targets(5, seed=3)
        more = random_targets(2 * CHUNK, seed=4)
        wild = Targets(*(torch.cat([a, b], dim=1) for a, b in zip(few[:4], more[:4], strict=True)))
        wild.valid[:, 5:] = False
        wild.boxes[:, 5::2] = math.nan
        assert torch.equal(assigner(priors, wild).target, assigner(priors, few).target)

    def test_never_matches_crowd_or_padding(self, assigner: Assigner) -> None:
        t = random_targets(9, seed=5)
        target = assigner(anchors(ratios=(1.0,)), t).target
        for i in range(3):
            assert {j for j in target[i].tolist() if j >= 0} <= set(real_rows(t, i))
        assert (target[2] == -1).all()

    def test_images_do_not_see_each_other(self, assigner: Assigner) -> None:
        t, priors = random_targets(6, seed=6), anchors(ratios=(1.0,))
        together = assigner(priors, t).target
        for i in range(3):
            alone = Targets(*(x[i : i + 1] for x in t[:4]))
            assert torch.equal(assigner(priors, alone).target[0], together[i])


def test_points_are_matched_by_boxes_of_eight_strides() -> None:
    """Written as boxes of one stride they would overlap no target of their level's size."""
    as_points, as_anchors = points(), anchors(ratios=(1.0,), base_scale=8.0, offset=0.5)
    t = random_targets(5, seed=7)
    for assigner in (ATSSAssigner(), MaxIoUAssigner()):
        assert torch.equal(assigner(as_points, t).target, assigner(as_anchors, t).target)
    assert not torch.equal(ATSSAssigner(point_scale=1.0)(as_points, t).target, ATSSAssigner()(as_points, t).target)


def test_anchors_of_each_image_have_their_own_overlaps() -> None:
    """RoIs come as [B, N, 2] priors."""
    priors = anchors()
    own = Priors(*(torch.stack([x, x.flip(0), x]) for x in priors[:3]), priors.levels)  # type: ignore[arg-type]
    t = random_targets(6, seed=8)
    got, shared = MaxIoUAssigner()(own, t).target, MaxIoUAssigner()(priors, t).target
    assert torch.equal(got[0], shared[0])
    assert torch.equal(got[1], shared[1].flip(0))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: MaxIoUAssigner(positive=0.3, negative=0.5),
        lambda: FCOSAssigner(radius=-1),
        lambda: ATSSAssigner(candidates=1),
    ],
)
def test_wrong_settings_are_refused(wrong: object) -> None:
    with pytest.raises(PartError, match=": expected a "):
        wrong()  # type: ignore[operator]


def test_centerness_is_one_in_the_middle() -> None:
    from torso.training.assigners.fcos import centerness

    box: Tensor = torch.tensor([[[0.0, 0, 10, 20]] * 3])
    got = centerness(torch.tensor([[5.0, 10], [0, 10], [11, 10]]), box)
    assert got.tolist() == [[1.0, 0.0, 0.0]]
