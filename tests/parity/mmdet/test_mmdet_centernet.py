"""CenterNet (points) beside mmdetection's: the whole network's outputs, heatmap targets, losses, detections."""

from __future__ import annotations

from mmdet_peer import (
    CLASSES,
    SIZE_HW,
    ConfigDict,
    assert_detections,
    assert_equal,
    copy_weights,
    flat,
    images,
    metas,
    randomise,
    target_sets,
)

# the stand-ins for compiled operations must be there before mmdet is imported
# isort: split
import pytest
import torch
from mmdet.models.backbones import ResNet
from mmdet.models.dense_heads import CenterNetHead
from mmdet.models.necks import CTResNetNeck
from test_mmdet_necks import upsample_keys
from torch import nn

from torso.models.detector import Detector
from torso.parts import part
from torso.suppression.none import NoSuppression
from torso.training.assigners.gaussian import GaussianAssigner
from torso.training.criteria.heatmap import HeatmapCriterion
from torso.types import HeatmapPredictions, Images
from torso.zoo.centernet_points import centernet_points

KEYS = [(r"^0\.", "backbone.body."), (r"^1\.", ""), *upsample_keys("neck.0.")]
for theirs, mine in (("heatmap_head", "heat"), ("wh_head", "size"), ("offset_head", "offset")):
    KEYS += [(rf"^2\.{theirs}\.0\.", f"head.{mine}.0.conv."), (rf"^2\.{theirs}\.2\.", f"head.{mine}.1.")]
SETS = target_sets()
# mmdetection's own settings: a wider Gaussian, a shared cell overwritten, peaks counted
PEER_SETTINGS = part(
    HeatmapCriterion, assigner=part(GaussianAssigner, min_overlap=0.3, shared_cell="last"), normaliser="peaks"
)


@pytest.fixture(scope="module")
def peer() -> nn.Sequential:
    head = CenterNetHead(64, 64, CLASSES, test_cfg=ConfigDict(topk=100, local_maximum_kernel=3, max_per_img=100))
    network = nn.Sequential(ResNet(18), CTResNetNeck(512, (256, 128, 64), (4, 4, 4), use_dcn=False), head)
    randomise(network)
    head.wh_head[-1].bias.data.fill_(8.0)  # sizes above 0, below which the decoders differ on purpose
    return network.double().eval()


@pytest.fixture(scope="module")
def ours(peer: nn.Sequential) -> Detector:
    model = centernet_points(num_classes=CLASSES).build().double().eval()
    copy_weights(peer, model, KEYS)
    return model


@pytest.fixture(scope="module")
def batch(ours: Detector) -> Images:
    return images()


@pytest.fixture(scope="module")
def raw(ours: Detector, batch: Images) -> HeatmapPredictions:
    with torch.no_grad():
        return ours(batch)


@pytest.fixture(scope="module")
def peer_maps(peer: nn.Sequential, ours: Detector, batch: Images) -> tuple[list[torch.Tensor], ...]:
    with torch.no_grad():
        return peer(ours.normalise(batch))


def test_raw_outputs(raw: HeatmapPredictions, peer_maps: tuple[list[torch.Tensor], ...]) -> None:
    heat, size, offset = peer_maps
    assert raw.logits.sigmoid().std() > 0.1
    assert_equal("centernet heatmap", raw.logits.sigmoid(), flat(heat, CLASSES))
    assert_equal("centernet sizes", raw.sizes, flat(size, 2))
    assert_equal("centernet offsets", raw.offsets, flat(offset, 2))


@pytest.mark.parametrize("name", SETS)
def test_targets(name: str, peer: nn.Sequential, raw: HeatmapPredictions) -> None:
    targets, peers = SETS[name]
    shape = (2, CLASSES, SIZE_HW[0] // 4, SIZE_HW[1] // 4)
    wanted, count = peer[2].get_targets([p.bboxes for p in peers], [p.labels for p in peers], shape, SIZE_HW)
    heatmap, pairs = PEER_SETTINGS.get("assigner").build()(raw.priors, targets, CLASSES)
    assert_equal(f"centernet heatmap target, {name}", heatmap, flat([wanted["center_heatmap_target"]], CLASSES))
    assert max(int((heatmap == 1).sum()), 1) == count
    places = torch.zeros(heatmap.shape[:2]).scatter_reduce(1, pairs.prior, pairs.weight, "sum")
    assert torch.equal(places, flat([wanted["wh_offset_target_weight"][:, :1]], 1)[..., 0])


@pytest.mark.parametrize("name", SETS)
def test_losses(
    name: str, peer: nn.Sequential, raw: HeatmapPredictions, peer_maps: tuple[list[torch.Tensor], ...]
) -> None:
    targets, peers = SETS[name]
    wanted = peer[2].loss_by_feat(*peer_maps, peers, metas())
    terms = PEER_SETTINGS.build().terms(raw, targets)
    for mine, theirs in (("heat", "loss_center_heatmap"), ("size", "loss_wh"), ("offset", "loss_offset")):
        share = terms[mine].total / terms[mine].count.clamp(min=1)
        assert_equal(f"centernet {mine} loss, {name}", share, wanted[theirs])


def test_detections(
    peer: nn.Sequential, ours: Detector, raw: HeatmapPredictions, peer_maps: tuple[list[torch.Tensor], ...]
) -> None:
    # float32 maps on both sides: with float64 scores there, float32 ones here, near ties change their order
    single = HeatmapPredictions(raw.logits.float(), raw.offsets.float(), raw.sizes.float(), raw.priors)
    shape = (2, SIZE_HW[0] // 4, SIZE_HW[1] // 4)
    heat, offset, size = (x.reshape(*shape, -1).permute(0, 3, 1, 2).contiguous() for x in single[:3])
    wanted = peer[2].predict_by_feat([heat.sigmoid()], [size], [offset], metas(), rescale=False)
    limit = torch.tensor([SIZE_HW[1], SIZE_HW[0]] * 2, dtype=torch.float32)
    for w in wanted:
        w.bboxes = torch.minimum(w.bboxes.clamp(min=0), limit)  # mmdetection leaves them outside the image
    candidates = ours.head.decode(single, images(dtype=torch.float32))
    assert (candidates.boxes[..., 2:] > candidates.boxes[..., :2]).float().mean() > 0.9
    assert_detections("centernet detections", NoSuppression()(candidates), wanted)


def test_parameters_of_the_published_model() -> None:
    assert sum(p.numel() for p in centernet_points(num_classes=80).build().parameters()) == 14_219_092
