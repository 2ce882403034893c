"""YOLOv3 and YOLOX whole, what they detect, and YOLOv3's losses, beside mmdetection's."""

from __future__ import annotations

from mmdet_peer import (
    CLASSES,
    SIZE_HW,
    ConfigDict,
    InstanceData,
    assert_detections,
    assert_equal,
    copy_weights,
    images,
    metas,
    pyramid,
    randomise,
    specs,
    target_sets,
)

# the stand-ins for compiled operations must be there before mmdet is imported
# isort: split
from collections.abc import Mapping, Sequence

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.backbones import CSPDarknet, Darknet
from mmdet.models.dense_heads import YOLOV3Head
from mmdet.models.dense_heads import YOLOXHead as PeerYOLOXHead
from mmdet.models.necks import YOLOXPAFPN, YOLOV3Neck
from torch import Tensor, nn

from torso.data.targets import Targets
from torso.heads.dense import DenseHead
from torso.parts import find, part
from torso.suppression.nms import NMS
from torso.training.assigners._base import Assigner
from torso.training.assignment import BACKGROUND, IGNORED, Assignment
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.bce import BCELoss
from torso.training.losses.yolo_box import YOLOBoxLoss
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.training.terms.quality import QualityTerm
from torso.types import Candidates, DensePredictions, FeatureSpec, Priors
from torso.zoo.yolov3 import YOLOv3Head
from torso.zoo.yolox import YOLOXHead

WIDTHS = (8, 16, 32)
SETS = target_sets()
YOLOX_KEYS = [
    (r"^multi_level_cls_convs\.(\d)\.", r"branches.\1.cls_tower."),
    (r"^multi_level_reg_convs\.(\d)\.", r"branches.\1.box_tower."),
    (r"^multi_level_conv_cls\.(\d)\.", r"branches.\1.cls_out."),
    (r"^multi_level_conv_reg\.(\d)\.", r"branches.\1.box_out."),
    (r"^multi_level_conv_obj\.(\d)\.", r"branches.\1.quality_out."),
    (r"\.bn\.", ".norm."),
]
SILENT = -1e4  # a logit whose sigmoid is 0
TOP = 300  # candidates that are compared: of the further ones scores are too close to have one order


def copy_in_order(peer: nn.Module, ours: nn.Module) -> None:
    """Both list their convolutions and norms in the order in which they run."""
    theirs = [v for k, v in peer.state_dict().items() if not k.endswith("num_batches_tracked")]
    mine = {k: v for k, v in ours.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert [v.shape for v in theirs] == [v.shape for v in mine.values()]
    ours.load_state_dict(dict(zip(mine, theirs, strict=True)), strict=False)


def split_outputs(state: Mapping[str, Tensor], classes: int) -> dict[str, Tensor]:
    """mmdetection's output rows, for each anchor (x, y, w, h, objectness, classes), as those of our three outputs.

    Its levels run from coarse to fine.
    """
    parts = {}
    for i in range(3):
        for name in ("weight", "bias"):
            rows = state[f"convs_pred.{2 - i}.{name}"].unflatten(0, (3, 5 + classes))
            for output, values in (("box", rows[:, :4]), ("quality", rows[:, 4:5]), ("cls", rows[:, 5:])):
                parts[f"branches.{i}.{output}_out.{name}"] = values.flatten(0, 1)
    return parts


def copy_head(peer: YOLOV3Head, ours: nn.Module) -> None:
    state = {}
    for key, value in peer.state_dict().items():
        if key.startswith("convs_bridge."):
            level = 2 - int(key.split(".")[1])
            state[f"branches.{level}.cls_tower.0.{key.split('.', 2)[2]}".replace(".bn.", ".norm.")] = value
    ours.load_state_dict({**state, **split_outputs(peer.state_dict(), ours.num_classes)}, strict=True)


def peer_head(widths: Sequence[int], classes: int) -> YOLOV3Head:
    sizes = part(YOLOv3Head, num_classes=1).get("priors").get("sizes")
    return YOLOV3Head(
        num_classes=classes, in_channels=list(widths)[::-1], out_channels=[2 * w for w in widths][::-1],
        anchor_generator={
            "type": "YOLOAnchorGenerator", "base_sizes": [list(level) for level in sizes[::-1]],
            "strides": [32, 16, 8],
        },
        bbox_coder={"type": "YOLOBBoxCoder"}, featmap_strides=[32, 16, 8],
        loss_cls={"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0, "reduction": "sum"},
        loss_conf={"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0, "reduction": "sum"},
        loss_xy={"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 2.0, "reduction": "sum"},
        loss_wh={"type": "MSELoss", "loss_weight": 2.0, "reduction": "sum"},
        train_cfg=ConfigDict(
            assigner={"type": "GridAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.5, "min_pos_iou": 0}
        ),
        test_cfg=ConfigDict(score_thr=0.0, nms_pre=-1),
    ).double()  # fmt: skip


def rows_of(maps: Sequence[Tensor], values: int) -> Tensor:
    """[B, N, values], fine to coarse, of maps from coarse to fine."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, values) for m in reversed(maps)], dim=1)


def heads() -> tuple[YOLOV3Head, YOLOv3Head, list[Tensor]]:
    peer = peer_head(WIDTHS, CLASSES)
    randomise(peer)
    peer.eval()
    specs = [FeatureSpec(w, (s, s)) for w, s in zip(WIDTHS, (8, 16, 32), strict=True)]
    ours = YOLOv3Head(
        specs, num_classes=CLASSES, channels=tuple(2 * w for w in WIDTHS), score_threshold=0.0, pre_nms_top=10**6
    )
    copy_head(peer, ours.double())
    g = torch.Generator().manual_seed(1)
    size = [(SIZE_HW[0] // s.stride, SIZE_HW[1] // s.stride) for s in specs]
    features = [torch.randn(2, w, *hw, generator=g, dtype=torch.float64) for w, hw in zip(WIDTHS, size, strict=True)]
    return peer, ours.eval(), features


def assert_candidates(what: str, found: Candidates, peers: Sequence[InstanceData]) -> None:
    """The best candidates, before suppression; mmdetection's are clipped as ours."""
    height, width = SIZE_HW
    for i, peer in enumerate(peers):
        mine, theirs = found.scores[i].topk(TOP), peer.scores.topk(TOP)
        boxes = torch.minimum(peer.bboxes.clamp(min=0), torch.tensor([width, height, width, height]))
        assert_equal(f"{what} scores", mine.values, theirs.values)
        assert_equal(f"{what} boxes", found.boxes[i][mine.indices], boxes[theirs.indices])
        assert torch.equal(found.labels[i][mine.indices], peer.labels[theirs.indices])


@torch.no_grad()
def test_yolov3_head_and_candidates() -> None:
    peer, ours, features = heads()
    (maps,) = peer(features[::-1])
    raw = ours(features, images())
    wanted = rows_of(maps, 5 + CLASSES)
    assert raw.quality is not None
    assert_equal("yolov3 logits", raw.logits, wanted[..., 5:])
    assert_equal("yolov3 codes", raw.codes, wanted[..., :4])
    assert_equal("yolov3 objectness", raw.quality, wanted[..., 4])
    peers = peer.predict_by_feat([m.clone() for m in maps], metas(), rescale=False, with_nms=False)
    for p in peers:
        p.scores = p.scores * p.score_factors if "score_factors" in p else p.scores
    assert_candidates("yolov3 candidates,", ours.decode(raw, images()), peers)


def inside(raw: DensePredictions, head: DenseHead) -> Tensor:
    """[B, N]: whose boxes lie in the image; mmdetection suppresses boxes before it clips them."""
    height, width = SIZE_HW
    boxes = head.coder.decode(raw.codes, raw.priors)
    return ((boxes >= 0) & (boxes <= torch.tensor([width, height, width, height]))).all(-1)


def as_maps(rows: Tensor, priors: Priors) -> list[Tensor]:
    """[B, N] as [B, A, h, w] a level, fine to coarse."""
    levels = rows.split(priors.level_sizes, dim=1)
    return [m.unflatten(1, shape).permute(0, 3, 1, 2) for m, shape in zip(levels, priors.levels, strict=True)]


@torch.no_grad()
def test_yolov3_detections() -> None:
    """Of boxes in the image, without thresholds: mmdetection puts two, to objectness and to the class score."""
    peer, ours, features = heads()
    (maps,) = peer(features[::-1])
    raw = ours(features, images())
    assert raw.quality is not None
    kept = inside(raw, ours)
    for m, keep in zip(reversed(maps), as_maps(kept, raw.priors), strict=True):
        objectness = m.unflatten(1, (3, 5 + CLASSES))[:, :, 4]
        objectness[~keep] = SILENT
    cfg = ConfigDict(score_thr=0.0, nms_pre=-1, nms={"type": "nms", "iou_threshold": 0.45}, max_per_img=1000)
    wanted = peer.predict_by_feat(maps, metas(), cfg=cfg, rescale=False)
    raw = raw._replace(quality=torch.where(kept, raw.quality, SILENT))
    found = NMS(iou_threshold=0.45, max_detections=1000)(ours.decode(raw, images()))
    assert_detections("yolov3 detections", found, wanted)


@torch.no_grad()
def test_yolox_detections() -> None:
    """Of boxes in the image, each place's best class alone, with the threshold and suppression of its config."""
    cfg = ConfigDict(score_thr=0.01, nms={"type": "nms", "iou_threshold": 0.65})
    peer = PeerYOLOXHead(num_classes=CLASSES, in_channels=32, feat_channels=32, test_cfg=cfg).double()
    randomise(peer)
    for m in peer.multi_level_conv_reg:
        m.weight *= 0.2
        m.bias[2:] += 1.9  # so large and alike that boxes of neighbours overlap
    ours = YOLOXHead(
        specs(32, (8, 16, 32)), num_classes=CLASSES, channels=32, score_threshold=0.01, pre_nms_top=10**6
    ).double()
    copy_weights(peer, ours, YOLOX_KEYS)
    peer.eval(), ours.eval()
    features = pyramid(32, (8, 16, 32))
    cls, box, objectness = peer(features)
    raw = ours(features, images())
    assert raw.quality is not None
    kept = inside(raw, ours)
    silenced = [torch.where(k, o, SILENT) for k, o in zip(as_maps(kept, raw.priors), objectness, strict=True)]
    wanted = peer.predict_by_feat(cls, box, silenced, metas(), rescale=False)
    best = raw.logits == raw.logits.amax(-1, keepdim=True)
    raw = raw._replace(logits=torch.where(best, raw.logits, SILENT), quality=torch.where(kept, raw.quality, SILENT))
    candidates = ours.decode(raw, images())
    found = NMS(iou_threshold=0.65, max_detections=2000)(candidates)
    assert_detections("yolox detections", found, wanted)
    fallen = [int((s > 0).sum()) - len(w.scores) for s, w in zip(candidates.scores, wanted, strict=True)]
    assert min(fallen) > 50, f"suppression dropped {fallen} boxes"


class Given(Assigner):
    """What mmdetection assigned."""

    at_cell = True

    def __init__(self, target: Tensor) -> None:
        self.target = target

    def __call__(
        self, priors: Priors, targets: Targets, boxes: Tensor | None = None, scores: Tensor | None = None
    ) -> Assignment:
        return Assignment(self.target)


def assigned(peer: YOLOV3Head, maps: Sequence[Tensor], instances: Sequence[InstanceData]) -> Tensor:
    """[B, N] rows of our targets, whose row 0 is a crowd: mmdetection counts targets from 1, too."""
    sizes = [m.shape[-2:] for m in maps]
    anchors = peer.prior_generator.grid_priors(sizes, device="cpu")
    found = []
    for instance in instances:
        flags = peer.responsible_flags(sizes, instance.bboxes, "cpu")
        given = InstanceData(priors=torch.cat(anchors), responsible_flags=torch.cat(flags))
        index = peer.assigner.assign(given, instance).gt_inds
        index = torch.where(index > 0, index, torch.where(index == 0, BACKGROUND, IGNORED))
        found.append(torch.cat(index.split([len(a) for a in anchors])[::-1]))
    return torch.stack(found)


@pytest.mark.parametrize("name", SETS)
def test_yolov3_losses(name: str) -> None:
    """With mmdetection's assignment; its entropies of the wanted shares are constants, which our loss leaves out."""
    peer, ours, features = heads()
    targets, instances = SETS[name]
    (maps,) = peer(features[::-1])
    wanted = {k: torch.stack(v).sum() for k, v in peer.loss_by_feat(maps, instances, metas()).items()}
    criterion = DenseCriterion(
        cls=part(ClassificationTerm, loss=part(BCELoss), on="positives"),
        box=part(BoxTerm, loss=part(YOLOBoxLoss, size_weight=2.0), weight=2.0),
        normaliser="batch",
        quality=part(QualityTerm, on="used", target="one"),
    )
    criterion.match.assigner = Given(assigned(peer, maps, instances))
    raw = ours(features, images())
    terms = criterion.terms(raw, targets, ours)
    target = criterion.assigner.target
    target_boxes = targets.boxes.gather(1, target.clamp(min=0)[..., None].expand(-1, -1, 4))
    target_boxes = torch.where(target[..., None] >= 0, target_boxes, raw.priors.boxes)
    share = ours.coder.encode(target_boxes, raw.priors)[..., :2].sigmoid()
    least = F.binary_cross_entropy(share, share, reduction="none").sum(-1)[target >= 0].sum()
    assert_equal(f"yolov3 cls loss, {name}", terms["cls"].total, wanted["loss_cls"])
    assert_equal(f"yolov3 objectness loss, {name}", terms["objectness"].total, wanted["loss_conf"])
    box = wanted["loss_xy"] + wanted["loss_wh"]
    assert_equal(f"yolov3 box loss, {name}", terms["box"].total + 2 * least, box)
    assert bool((target >= 0).any()) == any(len(t.labels) for t in instances)


@torch.no_grad()
def test_yolov3_whole() -> None:
    backbone = Darknet(depth=53, out_indices=(3, 4, 5)).double()
    neck = YOLOV3Neck(num_scales=3, in_channels=[1024, 512, 256], out_channels=[512, 256, 128]).double()
    head = peer_head((128, 256, 512), 80)
    ours = find("yolov3", "zoo")().build().double().eval()
    for i, module in enumerate((backbone, neck, head)):
        randomise(module, seed=i)
        module.eval()
    copy_in_order(backbone, ours.backbone.body)
    keys = [
        *((rf"^detect{i + 1}\.conv{j + 1}\.", f"top_down.{2 - i}.{j}.") for i in range(3) for j in range(5)),
        (r"^conv1\.", "reduce.1."), (r"^conv2\.", "reduce.0."), (r"\.bn\.", ".norm."),
    ]  # fmt: skip
    copy_weights(neck, ours.neck[0], keys)
    copy_head(head, ours.head)
    assert sum(p.numel() for m in (backbone, neck, head) for p in m.parameters()) == 61_949_149
    pixels = images(1)
    (maps,) = head(neck(backbone(ours.normalise(pixels))))
    raw, wanted = ours(pixels), rows_of(maps, 85)
    assert raw.quality is not None
    assert_equal("yolov3 whole, logits", raw.logits, wanted[..., 5:])
    assert_equal("yolov3 whole, codes", raw.codes, wanted[..., :4])
    assert_equal("yolov3 whole, objectness", raw.quality, wanted[..., 4])


@torch.no_grad()
def test_yolox_whole_and_candidates() -> None:
    from test_mmdet_csp import KEYS as BODY
    from test_mmdet_csp_pan import KEYS as NECK

    backbone = CSPDarknet(deepen_factor=0.33, widen_factor=0.5, out_indices=(1, 2, 3, 4)).double()
    neck = YOLOXPAFPN([128, 256, 512], 128, num_csp_blocks=1).double()
    head = PeerYOLOXHead(
        num_classes=80, in_channels=128, feat_channels=128, test_cfg=ConfigDict(score_thr=0.0)
    ).double()
    ours = find("yolox_s", "zoo")().override("head.pre_nms_top", 10**6).override("head.score_threshold", 0.0)
    ours = ours.build().double().eval()
    for i, module in enumerate((backbone, neck, head)):
        randomise(module, seed=i)
        module.eval()
    copy_weights(backbone, ours.backbone, BODY)
    copy_weights(neck, ours.neck[0], NECK)
    copy_weights(head, ours.head, YOLOX_KEYS)
    assert sum(p.numel() for m in (backbone, neck, head) for p in m.parameters()) == 8_968_255
    pixels = images(1)
    outputs = head(neck(backbone(ours.normalise(pixels))[1:]))
    raw = ours(pixels)
    cls, box, objectness = (rows_of(maps[::-1], v) for maps, v in zip(outputs, (80, 4, 1), strict=True))
    assert raw.quality is not None
    assert_equal("yolox whole, logits", raw.logits, cls)
    assert_equal("yolox whole, codes", raw.codes, box)
    assert_equal("yolox whole, objectness", raw.quality[..., None], objectness)
    peers = head.predict_by_feat(*outputs, metas(1), rescale=False, with_nms=False)
    best = raw.logits == raw.logits.amax(-1, keepdim=True)  # mmdetection takes a prior's best class alone
    found = ours.head.decode(raw._replace(logits=torch.where(best, raw.logits, SILENT)), pixels)
    assert_candidates("yolox candidates,", found, peers)
