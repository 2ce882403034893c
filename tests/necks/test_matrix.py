"""Matrix: which levels there are, their sizes, what is shared, who sees whom, dense heads on unequal strides."""

from __future__ import annotations

import pytest
import torch
from neck_cases import SMALL, check_exports, check_learns, connected, count, levels, maps

from torso.data.targets import Targets
from torso.heads.faster_rcnn import FasterRCNNHead
from torso.necks.fpn import FPN
from torso.necks.matrix import Matrix
from torso.parts import find
from torso.training.assigners.fcos import FCOSAssigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.criteria._base import loss_of
from torso.types import Images
from torso.zoo.atss import ATSSHead
from torso.zoo.fcos import FCOSHead
from torso.zoo.retinanet import RetinaNetHead


def test_nineteen_of_twenty_five_levels() -> None:
    neck = Matrix(SMALL, channels=8)
    strides = [s.stride_yx for s in neck.out_specs]
    assert len(strides) == len(set(strides)) == 19
    assert all(max(s) <= 4 * min(s) for s in strides)
    assert strides[:6] == [(8, 8), (8, 16), (16, 8), (16, 16), (8, 32), (32, 8)]
    assert strides[-1] == (128, 128)
    assert [y * x for y, x in strides] == sorted(y * x for y, x in strides)
    assert len(Matrix(SMALL, channels=8, band=4).out_specs) == 25
    assert len(Matrix(SMALL, channels=8, band=0).out_specs) == 5


def test_two_convolutions_serve_the_whole_matrix() -> None:
    one = 8 * 8 * 9 + 8
    assert count(Matrix(SMALL, channels=8)) == count(FPN(SMALL, channels=8)) + 2 * one
    assert count(Matrix(SMALL, channels=8, band=4)) == count(Matrix(SMALL, channels=8, band=1))
    assert count(Matrix(SMALL, channels=8, band=0)) == count(FPN(SMALL, channels=8))


@pytest.mark.parametrize("size_hw", [(128, 256), (109, 179)])
def test_out_specs_are_true(size_hw: tuple[int, int]) -> None:
    neck = Matrix(SMALL, channels=8)
    for spec, m in zip(neck.out_specs, neck(maps(size_hw)), strict=True):
        assert m.shape == (2, 8, *(-(-v // s) for v, s in zip(size_hw, spec.stride_yx, strict=True)))


def test_the_diagonal_is_the_fpn_and_the_rest_is_made_of_it() -> None:
    torch.manual_seed(0)
    neck, x = Matrix(SMALL, channels=8), maps((128, 128))
    assert neck.fpn is not None
    p = neck.fpn(x)
    out = {s.stride_yx: m for s, m in zip(neck.out_specs, neck(x), strict=True)}
    for spec, m in zip(neck.fpn.out_specs, p, strict=True):
        assert torch.equal(out[spec.stride_yx], m)
    assert torch.equal(out[8, 32], neck.halve_width(neck.halve_width(p[0])))
    assert torch.equal(out[64, 16], neck.halve_height(neck.halve_height(p[1])))


def test_behind_another_neck_the_levels_that_come_are_the_diagonal() -> None:
    torch.manual_seed(0)
    specs = levels(8, 8, 8)
    neck = Matrix(specs, channels=8, diagonal="incoming", coarsest=32)
    assert neck.fpn is None
    rows = connected(neck, maps((64, 64), specs))
    strides = [s.stride_yx for s in neck.out_specs]
    for i, row in enumerate(rows):  # right of and below its own place only
        own = 8 << i
        expected = [min(s) == own for s in strides]
        assert row == expected


def test_it_learns_everywhere_and_is_exported() -> None:
    neck = Matrix(SMALL, channels=8)
    check_learns(neck, maps((64, 96)))
    check_exports(neck, maps((70, 90)))


def truth() -> Targets:
    """One long flat box and one tall one."""
    boxes = torch.tensor([[[8.0, 60, 248, 100], [100, 4, 130, 124]]])
    yes = torch.ones(1, 2, dtype=torch.bool)
    return Targets(boxes, torch.tensor([[0, 1]]), yes, ~yes)


@pytest.mark.parametrize("head_class", [RetinaNetHead, FCOSHead, ATSSHead])
def test_dense_heads_take_unequal_strides(head_class: type[RetinaNetHead]) -> None:
    torch.manual_seed(0)
    neck = Matrix(SMALL, channels=32, coarsest=64)
    head = head_class(neck.out_specs, num_classes=3, channels=32, tower=1).eval()
    x = [m[:1] for m in maps((128, 256))]
    images = Images(torch.zeros(1, 3, 128, 256), torch.tensor([[128.0, 256.0]]), torch.tensor([[1.0, 1, 0, 0]]))
    raw = head(neck(x), images)
    assert sum(raw.priors.level_sizes) == raw.logits.shape[1]
    found = head.decode(raw, images)
    assert found.boxes.isfinite().all()
    # exact codes of a box bring it back from priors of every pair of strides
    boxes = torch.tensor([-9.0, -9, 330, 140]).expand(raw.codes.shape)
    back = head.coder.decode(head.coder.encode(boxes, raw.priors), raw.priors)
    torch.testing.assert_close(back, boxes.clone(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_dense_detectors_learn_on_the_matrix(name: str) -> None:
    """The paper's own assigner and losses, on levels of unequal strides: finite, and lower after a few steps."""
    torch.manual_seed(0)
    neck = Matrix(SMALL, channels=32, coarsest=64)
    recipe = find(name, "recipes")(num_classes=3)
    head = recipe.get("model").get("head").with_args(channels=32, tower=1).build(neck.out_specs)
    criterion = recipe.get("criterion").build()
    x = [m[:1] for m in maps((128, 256))]
    images = Images(torch.zeros(1, 3, 128, 256), torch.tensor([[128.0, 256.0]]), torch.tensor([[1.0, 1, 0, 0]]))
    parameters = [*neck.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    losses = []
    for _ in range(8):
        total, _ = loss_of(criterion.terms(head(neck(x), images), truth(), head))
        optimizer.zero_grad()
        total.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
        optimizer.step()
        losses.append(float(total.detach()))
    assert losses[-1] < 0.9 * losses[0], losses


def test_long_boxes_meet_anchors_of_their_shape() -> None:
    """With square levels only no anchor overlaps a 6 : 1 box by half; on the matrix some do."""
    specs = SMALL
    best = {}
    for name, neck in {"square": FPN(specs, channels=8), "matrix": Matrix(specs, channels=8)}.items():
        head = RetinaNetHead(neck.out_specs, num_classes=3, channels=8, tower=0)
        sizes = [(-(-128 // s.stride_yx[0]), -(-256 // s.stride_yx[1])) for s in neck.out_specs]
        priors = head.priors(sizes, (128, 256))
        target = MaxIoUAssigner(positive=0.5, negative=0.4, rescue=False)(priors, truth()).target
        best[name] = int((target == 0).sum())
        points = FCOSHead(neck.out_specs, num_classes=3, channels=8, tower=0).priors(sizes, (128, 256))
        assert (FCOSAssigner()(points, truth()).target >= 0).any()
    assert best["square"] == 0 < best["matrix"]


def test_refusals() -> None:
    neck = Matrix(SMALL, channels=8)
    with pytest.raises(ValueError, match=r"unequal strides \(y, x\) = \(8, 16\).*dense heads"):
        FPN(neck.out_specs, channels=8)
    with pytest.raises(ValueError, match=r"unequal strides .*dense heads"):
        FasterRCNNHead(Matrix(SMALL, channels=8, finest=4, coarsest=64).out_specs, num_classes=3)
    with pytest.raises(ValueError, match=r"Matrix starts at stride 2"):
        Matrix(SMALL, finest=2, diagonal="incoming")
    with pytest.raises(ValueError, match=r"Matrix starts at stride 2"):
        Matrix(SMALL, finest=2)
    with pytest.raises(ValueError, match=r"8 channels; \[12, 16, 20\] came"):
        Matrix(SMALL, channels=8, diagonal="incoming")
    with pytest.raises(ValueError, match=r"incoming levels have strides \[8, 32\].*choose a neck that takes any"):
        Matrix([SMALL[1], SMALL[3]], channels=8, coarsest=32)
    with pytest.raises(ValueError, match="band"):
        Matrix(SMALL, band=-1)
