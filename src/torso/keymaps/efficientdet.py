"""Weights of effdet 0.4.1 (rwightman/efficientdet-pytorch), which hold the authors', in torso's EfficientDet."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from torso.keymaps._rename import Rules, renamed
from torso.necks._bifpn_graph import bifpn_graph

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
            f"an output of {len(rows)} rows came; effdet's detectors have {_SCALES * _ASPECTS} anchors a place: "
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
