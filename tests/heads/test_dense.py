"""The generic dense head: published sizes, towers, decoding against the plain rule, and its errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from torso.blocks.rfb import RFB
from torso.compose import built_on_meta, compose_model
from torso.geometry.priors.anchors import Anchors
from torso.geometry.priors.points import Points
from torso.heads.dense import DenseHead
from torso.heads.rpn import RPNHead
from torso.necks.at_levels import AtLevels
from torso.necks.matrix import Matrix
from torso.parts import PartError, named, part
from torso.suppression.nms import NMS
from torso.types import DensePredictions, FeatureSpec, Images
from torso.zoo.fcos import FCOSHead
from torso.zoo.retinanet import RetinaNetHead

SPECS = tuple(FeatureSpec(8, (s, s)) for s in (8, 16, 32, 64, 128))


def features(batch: int = 2, size: int = 128) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 8, -(-size // s.stride), -(-size // s.stride), generator=g) for s in SPECS]


def images(batch: int = 2, size: int = 128) -> Images:
    return Images(torch.zeros(batch, 3, size, size), torch.full((batch, 2), float(size)), torch.ones(batch, 4))


def head(kind: type[DenseHead] = RetinaNetHead, **more: Any) -> DenseHead:
    torch.manual_seed(0)
    return kind(SPECS, **{"num_classes": 3, "channels": 8, "tower": 1, **more})


@pytest.mark.parametrize(
    ("name", "total", "of_head"),
    [
        ("retinanet", 37_968_692, 6_463_220),
        ("fcos", 32_295_322, 4_918_618),
        ("atss", 32_295_322, 4_918_618),
        ("rpn", 27_446_351, 593_935),
    ],
)
def test_published_parameter_counts(name: str, total: int, of_head: int) -> None:
    """Of mmdetection's models with 80 classes; every parameter counts, learned or frozen, buffers do not."""
    model = built_on_meta(compose_model(name))
    assert sum(p.numel() for p in model.parameters()) == total
    assert sum(p.numel() for p in model.head.parameters()) == of_head


def test_raw_shapes_and_rows() -> None:
    raw = head(quality="box", uncertainty=True)(features(), images())
    n = 9 * (256 + 64 + 16 + 4 + 1)
    assert raw.logits.shape == (2, n, 3)
    assert raw.codes.shape == raw.log_variance.shape == (2, n, 4)
    assert raw.quality.shape == (2, n)
    assert raw.priors.levels == ((16, 16, 9), (8, 8, 9), (4, 4, 9), (2, 2, 9), (1, 1, 9))


def test_a_row_of_the_output_is_the_place_and_prior_of_its_prior() -> None:
    """Change one place of one map: only the rows whose receptive field sees it change, and their priors stand there."""
    h = head(tower=0, out_kernel=1)
    maps = features(1)
    before = h(maps, images(1)).logits
    maps[1] = maps[1].clone()
    maps[1][0, :, 3, 5] += 10
    raw = h(maps, images(1))
    changed = (raw.logits != before).any(-1)[0].nonzero()[:, 0]
    start = 9 * 256 + (3 * 8 + 5) * 9
    assert changed.tolist() == list(range(start, start + 9))
    assert (raw.priors.centers_xy[changed] == torch.tensor([80.0, 48.0])).all()


def plain_decode(h: DenseHead, raw: DensePredictions, i: int) -> set[tuple[int, int]]:
    """(row, label) of the candidates of one image by the rule as it is written in the papers."""
    kept: set[tuple[int, int]] = set()
    start = 0
    scores = h.class_scores(raw.logits[i], None if raw.quality is None else raw.quality[i])
    for size in raw.priors.level_sizes:
        pairs = [(float(scores[r, k]), r, k) for r in range(start, start + size) for k in range(h.num_classes)]
        pairs = sorted((p for p in pairs if p[0] > h.score_threshold), reverse=True)[: h.pre_nms_top]
        kept |= {(r, k) for _, r, k in pairs}
        start += size
    return kept


@pytest.mark.parametrize("quality", ["none", "box"])
@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
@pytest.mark.parametrize("top", [1, 17, 10_000])
def test_decoding_keeps_the_best_pairs_of_each_level(scores: str, quality: str, top: int) -> None:
    h = head(scores=scores, quality=quality, pre_nms_top=top, score_threshold=0.3, priors=part(Points), fusion="sqrt")
    raw = h(features(), images())
    g = torch.Generator().manual_seed(1)
    raw = raw._replace(logits=torch.randn(raw.logits.shape, generator=g) * 2)
    found = h.decode(raw, images())
    for i in range(2):
        real = found.scores[i] > 0
        got = set(zip(found.index[i][real].tolist(), found.labels[i][real].tolist(), strict=True))
        assert got == plain_decode(h, raw, i)
        assert len(got) == int(real.sum())


def test_boxes_variances_and_clipping() -> None:
    h = head(uncertainty=True, score_threshold=0.0, pre_nms_top=50)
    raw = h(features(), images())
    small = images()._replace(size_hw=torch.tensor([[128.0, 128.0], [60.0, 70.0]]))
    found = h.decode(raw, small)
    assert float(found.boxes[1, :, 2].max()) <= 70
    assert float(found.boxes[1, :, 3].max()) <= 60
    assert found.variance is not None
    assert found.variance.shape == found.boxes.shape
    assert (found.variance > 0).all()


def test_levels_apart_says_of_every_row_which_level_it_is_of() -> None:
    """One object that two levels find: apart both boxes stay, together the better one, and of one level one."""
    h, apart = head(score_threshold=0.1), head(score_threshold=0.1, levels_apart=True)
    raw = h(features(1), images(1))
    logits = torch.full_like(raw.logits, -20)
    first, second = (256 * 9, 256 * 9 + 64 * 9)  # the first rows of the levels of stride 16 and 32
    logits[0, [first, first + 1, second], 1] = torch.tensor([3.0, 2.5, 2.0])
    here = torch.tensor([64.0, 64.0])
    priors = raw.priors._replace(
        centers_xy=here.expand_as(raw.priors.centers_xy), sizes_wh=here.expand_as(raw.priors.sizes_wh)
    )
    raw = raw._replace(logits=logits, codes=torch.zeros_like(raw.codes), priors=priors)
    assert h.decode(raw, images(1)).level is None
    assert NMS()(h.decode(raw, images(1))).index[0, :2].tolist() == [first, -1]
    found = NMS()(apart.decode(raw, images(1)))
    assert found.index[0, :3].tolist() == [first, second, -1]
    assert found.level[0, :2].tolist() == [1, 2]
    assert found.labels[0, :2].tolist() == [1, 1]


def test_a_proposal_without_a_side_inside_the_image_is_an_empty_row() -> None:
    h = head(RPNHead, num_classes=1, finest=8, coarsest=128, tower=1)
    raw = h(features(1), images(1))
    small = images(1)._replace(size_hw=torch.tensor([[128.0, 40.0]]))
    found, plain = h.decode(raw, small), DenseHead.decode(h, raw, small)
    flat = (plain.boxes[..., 2:] == plain.boxes[..., :2]).any(-1)
    assert flat.any()
    assert not flat.all()
    assert torch.equal(found.scores, plain.scores.masked_fill(flat, 0))
    assert torch.equal(found.index, plain.index.masked_fill(flat, -1))


def test_nan_scores_are_empty_rows() -> None:
    h = head()
    raw = h(features(), images())
    found = h.decode(raw._replace(logits=torch.full_like(raw.logits, torch.nan)), images())
    assert not found.scores.any()
    assert (found.index == -1).all()


def test_initial_scores_are_the_prior_probability() -> None:
    raw = head(prior_probability=0.02)(features(), images())
    assert float(raw.logits.sigmoid().mean()) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("neck", ["fpn", "pan", "csp_pan", "bifpn", "nas_fpn", "fc_fpn", "sfam"])
def test_towers_without_norms_hear_what_a_neck_with_norms_says(neck: str) -> None:
    """Its maps have a scale of 1, of which weights of 0.01 leave nothing behind four convolutions."""
    torch.manual_seed(0)
    model = compose_model(
        "retinanet", num_classes=3, backbone="test_resnet", neck=neck,
        overrides={"neck.channels": 32, "neck.finest": 8, "neck.coarsest": 128, "head.channels": 32},
    ).build()  # fmt: skip
    plain = neck in ("fpn", "pan")
    assert all(s.normed != plain for s in model.neck[-1].published)
    x = torch.randn(2, 32, 16, 16)
    for layer in model.head.branches[0].cls_tower:
        x = layer(x, 0)
    assert x.std() < 0.01 if plain else 0.2 < x.std() < 2


@pytest.mark.parametrize("neck", ["fpn", "pan", "csp_pan", "asff"])
def test_levels_beyond_the_backbones_begin_as_loud_as_its_last(neck: str) -> None:
    torch.manual_seed(0)
    specs = tuple(FeatureSpec(32, (s, s)) for s in (8, 16, 32))
    levels = {"channels": 32, "finest": 8, "coarsest": 128, "extra": "conv_p5"}
    built = named(neck, "necks").with_args(**levels).build(specs).train()
    maps = built([torch.randn(4, 32, 256 // s, 256 // s) for s in (8, 16, 32)])
    assert maps[4].std() > 0.3 * maps[2].std()


def test_a_level_without_a_block_is_published_as_it_came() -> None:
    specs = (FeatureSpec(16, (8, 8), normed=True), FeatureSpec(16, (16, 16)), FeatureSpec(16, (32, 32)))
    found = AtLevels(specs, block=part(RFB), strides=(32,)).published
    assert [s.normed for s in found] == [True, False, True]


def test_a_matrix_of_levels_that_come_has_their_scale() -> None:
    specs = tuple(FeatureSpec(64, (s, s)) for s in (8, 16, 32))
    normed = tuple(s._replace(normed=True) for s in specs)
    for came in (specs, normed):
        found = Matrix(came, channels=64, finest=8, coarsest=32, diagonal="incoming").published
        assert all(s.normed == (came is normed) for s in found)
    assert not any(s.normed for s in Matrix(normed, channels=64, finest=8, coarsest=32).published)


def test_levels_of_unequal_width_are_brought_together_or_have_their_own_weights() -> None:
    specs = [FeatureSpec(c, (s, s)) for c, s in ((4, 8), (6, 16))]
    maps = [torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)]
    shared = RetinaNetHead(specs, num_classes=2, channels=8, tower=1)
    assert shared(maps, images(1, 64)).logits.shape == (1, 9 * 80, 2)
    own = RetinaNetHead(specs, num_classes=2, channels=8, tower=1, shared=False)
    assert len(own.branches) == 2
    assert own(maps, images(1, 64)).logits.shape == (1, 9 * 80, 2)


def test_own_weights_allow_other_priors_a_level() -> None:
    sizes = part(Anchors, sizes=((8.0,), (16.0, 24.0), (32.0,), (64.0,), (128.0,)), ratios=(1.0,))
    raw = head(shared=False, priors=sizes)(features(), images())
    assert raw.logits.shape[1] == 256 + 2 * 64 + 16 + 4 + 1
    with pytest.raises(ValueError, match="expects the same number of priors a location on every level"):
        head(priors=sizes)


def test_a_paper_is_a_composition() -> None:
    """FCOS's head is the generic one with FCOS's arguments, and nothing else."""
    from torso.geometry.coders.ltrb import LTRBCoder

    written = head(
        DenseHead, norm="gn", priors=part(Points, offset=0.5), coder=part(LTRBCoder), quality="cls", level_scale=True
    )
    named = head(FCOSHead)
    named.load_state_dict(written.state_dict())
    for a, b in zip(written(features(), images())[:2], named(features(), images())[:2], strict=True):
        assert torch.equal(a, b)


def test_a_preset_with_an_unknown_argument_fails_where_it_is_written() -> None:
    with pytest.raises(PartError, match="a preset names 'towr'"):

        class _Wrong(DenseHead, towr=3):
            pass


def test_errors_say_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"needs a level of stride 4; the levels here have strides \[8, 16"):
        RPNHead(SPECS)
    with pytest.raises(ValueError, match="num_classes: expected a whole number of at least 1, got 0"):
        head(num_classes=0)


def test_a_width_a_level_and_a_narrower_box_tower() -> None:
    """YOLOv3's towers have 256, 512, 1024 channels; the v8-style head has towers of unequal widths."""
    h = head(shared=False, channels=(8, 16, 24, 32, 40), box_channels=12, tower=2, norm="bn_yolo")
    first, last = h.branches[0], h.branches[-1]
    assert [layer.conv.out_channels for layer in last.cls_tower] == [40, 40]
    assert [layer.conv.out_channels for layer in first.box_tower] == [12, 12]
    assert (first.cls_out.in_channels, last.cls_out.in_channels, last.box_out.in_channels) == (8, 40, 12)
    assert (first.cls_tower[0].norm.eps, first.cls_tower[0].norm.momentum) == (1e-3, 0.03)
    joint = head(shared=False, channels=(8, 16, 24, 32, 40), joint_tower=True, quality="box")
    assert joint.branches[2].quality_out.in_channels == joint.branches[2].box_out.in_channels == 24
    assert h(features(), images()).codes.shape == joint(features(), images()).codes.shape
    with pytest.raises(
        ValueError,
        match=r"channels: expected one number, or with shared=false one for each.*, got \(8, 16, 24, 32, 40\)",
    ):
        head(channels=(8, 16, 24, 32, 40))
    with pytest.raises(ValueError, match=r"2 levels \(quality_prior\), .* reads 5, .*set head\.quality_prior=0\.2"):
        head(shared=False, quality="box", quality_prior=(0.1, 0.2))


def test_initial_objectness_is_the_prior_of_its_level() -> None:
    priors = (0.01, 0.02, 0.03, 0.04, 0.5)
    raw = head(shared=False, quality="box", quality_prior=priors)(features(), images())
    means = [float(q.detach().sigmoid().mean()) for q in raw.quality.split(raw.priors.level_sizes, dim=1)]
    assert means == pytest.approx(priors, rel=0.05)


def test_a_softmax_can_leave_background_to_objectness() -> None:
    h = head(scores="softmax", background=False, quality="box", priors=part(Points), score_threshold=0.1)
    raw = h(features(), images())
    assert raw.logits.shape[-1] == h.columns == 3
    scores = h.class_scores(raw.logits, None)
    torch.testing.assert_close(scores.sum(-1), torch.ones(scores.shape[:-1]))
    assert h.class_rows("branches.0.cls_out.weight") == (1, False, 1)
    found = h.decode(raw, images())
    for i in range(2):
        real = found.scores[i] > 0
        got = set(zip(found.index[i][real].tolist(), found.labels[i][real].tolist(), strict=True))
        assert got == plain_decode(h, raw, i)


def test_towers_may_be_depthwise_with_one_for_the_quality_and_a_weighted_score() -> None:
    specs = (FeatureSpec(16, (8, 8)),)
    head = DenseHead(
        specs, num_classes=3, coarsest=8, channels=16, tower=1, norm="bn", depthwise=True, tower_kernel=5,
        quality="own", quality_share=0.6, scores="softmax", background=False,
    ).eval()  # fmt: skip
    branch = head.branches[0]
    assert branch.quality_tower[0].conv.weight.shape == (16, 1, 5, 5)
    torch.nn.init.normal_(branch.quality_out.weight)
    torch.nn.init.normal_(branch.cls_out.weight)
    x = torch.randn(1, 16, 6, 7)
    pixels = torch.zeros(1, 3, 48, 56)
    images = Images(pixels, torch.tensor([[48.0, 56.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    raw = head([x], images)
    want = raw.logits.softmax(-1) ** 0.4 * raw.quality.sigmoid()[..., None] ** 0.6
    torch.testing.assert_close(head.class_scores(raw.logits, raw.quality), want)
    found = head.decode(raw, images)
    torch.testing.assert_close(found.scores[0, 0], want.max())
    with pytest.raises(ValueError, match="set channels to the neck's"):
        DenseHead(specs, num_classes=3, coarsest=8, channels=32, depthwise=True)
    with pytest.raises(ValueError, match=r"quality_share: expected a number above 0 and below 1 or none, got 1\.0"):
        DenseHead(specs, num_classes=3, coarsest=8, quality_share=1.0)
