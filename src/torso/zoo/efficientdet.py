"""EfficientDet D0 to D7x: EfficientNet, BiFPN and the image grow together (Tan et al. 2020, arXiv 1911.09070)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from torso.backbones.timm import Timm
from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.priors.anchors import Anchors
from torso.heads.dense import DenseHead
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks._bifpn_graph import bifpn_graph
from torso.necks._fusion import Fusion
from torso.necks.bifpn import BiFPN
from torso.parts import Part, part
from torso.suppression.nms import NMS
from torso.zoo._rename import Rules, renamed


class EfficientDetHead(
    DenseHead,
    channels=64,
    tower=3,
    norm="bn_tf",
    level_norms=True,
    separable=True,
    activation="silu",
    priors=part(Anchors, base_scale=4.0, octave_scales=3, aspects=((1.0, 1.0), (1.4, 0.7), (0.7, 1.4)), offset=0.5),
    coder=part(DeltaCoder),
    prior_probability=0.01,
    score_threshold=0.01,
):
    """EfficientDet's head: separable towers shared over levels, norms that are not (Tan et al. 2020, arXiv 1911.09070).

    The dense head in the authors' setting: anchors as RetinaNet's, but centred in their cells and with sides of
    1.4 by 0.7 where the ratio is 2. tower_bias=True gives each pointwise convolution the bias of the published weights.
    """


def efficientdet_d0(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D0, 512 pixels: 3.9 M parameters, 2.5 G multiply-adds, AP 34.6 on COCO test-dev (arXiv 1911.09070).

    3,880,067 parameters with the 90 outputs of the published weights.
    """
    return _family(num_classes, "b0", size=512, channels=64, layers=3, tower=3)


def efficientdet_d1(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D1, 640 pixels: 6.6 M parameters, 6.1 G multiply-adds, AP 40.5 (arXiv 1911.09070)."""
    return _family(num_classes, "b1", size=640, channels=88, layers=4, tower=3)


def efficientdet_d2(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D2, 768 pixels: 8.1 M parameters, 11 G multiply-adds, AP 43.9 (arXiv 1911.09070)."""
    return _family(num_classes, "b2", size=768, channels=112, layers=5, tower=3)


def efficientdet_d3(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D3, 896 pixels: 12 M parameters, 25 G multiply-adds, AP 47.2 (arXiv 1911.09070)."""
    return _family(num_classes, "b3", size=896, channels=160, layers=6, tower=4)


def efficientdet_d4(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D4, 1024 pixels: 21 M parameters, 55 G multiply-adds, AP 49.7 (arXiv 1911.09070)."""
    return _family(num_classes, "b4", size=1024, channels=224, layers=7, tower=4)


def efficientdet_d5(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D5, 1280 pixels: 34 M parameters, 135 G multiply-adds, AP 51.5 (arXiv 1911.09070)."""
    return _family(num_classes, "b5", size=1280, channels=288, layers=7, tower=4)


def efficientdet_d6(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D6, 1280 pixels: 52 M parameters, 226 G multiply-adds, AP 52.6 (arXiv 1911.09070)."""
    return _family(num_classes, "b6", size=1280, channels=384, layers=8, tower=5, fusion="sum")


def efficientdet_d7(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D7, D6 at 1536 pixels: 52 M parameters, 325 G multiply-adds, AP 53.7 (arXiv 1911.09070)."""
    return _family(num_classes, "b6", size=1536, channels=384, layers=8, tower=5, fusion="sum", base_scale=5.0)


def efficientdet_d7x(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D7x, P3 to P8, 1536 pixels: 77 M parameters, 410 G multiply-adds, AP 55.1 (arXiv 1911.09070)."""
    return _family(num_classes, "b7", size=1536, channels=384, layers=8, tower=5, fusion="sum", coarsest=256)


def _family(
    num_classes: int,
    backbone: str,
    *,
    size: int,
    channels: int,
    layers: int,
    tower: int,
    fusion: Fusion = "fast",
    coarsest: int = 128,
    base_scale: float = 4.0,
) -> Part[Detector]:
    """One member; paddings and biases are those of the published TensorFlow weights."""
    head = part(
        EfficientDetHead, num_classes=num_classes, channels=channels, tower=tower, tower_bias=True, coarsest=coarsest
    )
    return part(
        Detector,
        backbone=part(Timm, name=f"tf_efficientnet_{backbone}", drop_path=0.2),
        neck=part(BiFPN, channels=channels, layers=layers, coarsest=coarsest, fusion=fusion, redundant_bias=True),
        head=head.override("priors.base_scale", base_scale),
        suppression=part(NMS, iou_threshold=0.5),
        input=part(Letterbox, size_hw=(size, size)),
    )


# Weights of effdet 0.4.1 (rwightman/efficientdet-pytorch), which hold the authors', in torso's EfficientDet.

_SCALES = _ASPECTS = 3
_NODE = r"fpn\.cell\.(\d+)\.fnode\.(\d+)\."


def effdet_to_torso(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict() of effdet's tf_efficientdet_d0 to _d7x as that of `efficientdet_d0(num_classes=90)` to _d7x.

    Besides names, effdet orders anchors by scale, then shape, and box codes as (y, x, h, w); it has the edge weights of
    each node apart, where here all are one row; and its laterals carry the numbers of their maps.
    Raises ValueError for tensors of another model, or another number of anchors.
    """
    nodes = {int(m[2]) for m in (re.match(_NODE, k) for k in state) if m}
    graph = bifpn_graph(len(nodes) // 2 + 1) if nodes else []
    edges = [(node, i) for node, (_, inputs) in enumerate(graph) for i in inputs]
    plain = {k: v for k, v in state.items() if not k.endswith("edge_weights")}
    out = renamed(plain, [*_laterals(edges), *_RULES], "effdet's EfficientDet")
    rows = _edge_rows(state, len(graph))
    if rows:
        out["neck.0.weights.weight"] = torch.cat(rows)
    for name in list(out):
        if ".cls_out.pointwise." in name or ".box_out.pointwise." in name:
            out[name] = _reordered(out[name], boxes=".box_out." in name)
    return out


def _laterals(edges: list[tuple[int, int]]) -> Rules:
    """The 1x1 of map i at a node of the first layer is that of the edge's number here."""
    rules = []
    for number, (node, i) in enumerate(edges):
        theirs = rf"fpn\.cell\.0\.fnode\.{node}\.combine\.resample\.{i}\.conv\."
        ours = f"neck.0.layers.0.lateral.{number}."
        rules += [(theirs + r"conv\.(.+)", ours + r"conv.\1"), (theirs + r"bn\.(.+)", ours + r"norm.\1")]
    return rules


def _edge_rows(state: Mapping[str, Tensor], nodes: int) -> list[Tensor]:
    """[E] a layer; none where the family sums without weights."""
    rows: list[Tensor] = []
    while f"fpn.cell.{len(rows)}.fnode.0.combine.edge_weights" in state:
        layer = f"fpn.cell.{len(rows)}.fnode"
        rows.append(torch.cat([state[f"{layer}.{n}.combine.edge_weights"] for n in range(nodes)]))
    return rows


def _reordered(rows: Tensor, *, boxes: bool) -> Tensor:
    """[scales * shapes * values, ...] -> [shapes * scales * values, ...], codes (y, x, h, w) -> (x, y, w, h)."""
    values, rest = divmod(len(rows), _SCALES * _ASPECTS)
    if rest or (boxes and values != 4):
        raise ValueError(
            f"an output has {len(rows)} rows; effdet's detectors have {_SCALES * _ASPECTS} anchors a location: "
            "give weights with the default scales and aspect ratios"
        )
    grouped = rows.reshape(_SCALES, _ASPECTS, values, *rows.shape[1:]).transpose(0, 1)
    if boxes:
        grouped = grouped[:, :, [1, 0, 3, 2]]
    return grouped.reshape(rows.shape)


def _head(theirs: str, ours: str) -> Rules:
    tower, out = f"head.branches.0.{ours}_tower", f"head.branches.0.{ours}_out"
    return (
        (rf"{theirs}\.conv_rep\.(\d+)\.conv_dw\.(.+)", rf"{tower}.\1.conv.depthwise.\2"),
        (rf"{theirs}\.conv_rep\.(\d+)\.conv_pw\.(.+)", rf"{tower}.\1.conv.pointwise.\2"),
        (rf"{theirs}\.bn_rep\.(\d+)\.(\d+)\.bn\.(.+)", rf"{tower}.\1.norm.\2.\3"),
        (rf"{theirs}\.predict\.conv_dw\.(.+)", rf"{out}.depthwise.\1"),
        (rf"{theirs}\.predict\.conv_pw\.(.+)", rf"{out}.pointwise.\1"),
    )


_RULES: Rules = (
    (r"backbone\.(.+)", r"backbone.body.\1"),
    (r"fpn\.resample\.\d+\.conv\.conv\.(.+)", r"neck.0.extra.project.conv.\1"),
    (r"fpn\.resample\.\d+\.conv\.bn\.(.+)", r"neck.0.extra.project.norm.\1"),
    (_NODE + r"after_combine\.conv\.conv_dw\.(.+)", r"neck.0.layers.\1.nodes.\2.conv.depthwise.\3"),
    (_NODE + r"after_combine\.conv\.conv_pw\.(.+)", r"neck.0.layers.\1.nodes.\2.conv.pointwise.\3"),
    (_NODE + r"after_combine\.conv\.bn\.(.+)", r"neck.0.layers.\1.nodes.\2.norm.\3"),
    *_head("class_net", "cls"),
    *_head("box_net", "box"),
)
