"""FastestDet (dog-qiuqiu/FastestDet @ 50473cd1, BSD-3-Clause): its weights in torso's names, its model composed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from torso.backbones.shufflenet_v2 import ShuffleNetV2
from torso.geometry.coders.fastestdet import FastestDetCoder
from torso.geometry.priors.shapes import Shapes
from torso.heads.dense import DenseHead
from torso.inputs.fixed import Fixed
from torso.models.detector import Detector
from torso.necks.fastestdet import FastestDet
from torso.parts import Part, part
from torso.suppression.nms import NMS
from torso.zoo._rename import Rules, renamed

_EPS = 1e-5  # of its norms
_OUTPUTS = {"obj": "quality_out", "reg": "box_out", "cls": "cls_out"}

COCO_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis",
    "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier",
    "toothbrush",
)  # fmt: skip
"""Of the published weights, in their order."""


def fastestdet_to_torso(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Its state_dict as that of `fastestdet_model(...).build()`.

    The norms behind its output convolutions go into those. It sees blue first; here the first convolution's channels
    are turned round. Raises ValueError for tensors of another model.
    """
    plain = {k: v for k, v in state.items() if ".conv5x5.3." not in k and ".conv5x5.4." not in k}
    out = renamed(plain, _RULES, "FastestDet")
    for theirs, ours in _OUTPUTS.items():
        layer = f"detect_head.{theirs}_layers.conv5x5"
        if f"{layer}.3.weight" not in state:
            raise ValueError(f"{layer}.3.weight is not among the tensors; give FastestDet's whole state_dict")
        weight, bias = _folded(state, f"{layer}.3", f"{layer}.4")
        out |= {f"head.branches.0.{ours}.weight": weight, f"head.branches.0.{ours}.bias": bias}
    out["backbone.stem.conv.weight"] = out["backbone.stem.conv.weight"].flip(1)
    return out


def fastestdet_model(*, num_classes: int = 80, size_hw: tuple[int, int] = (352, 352)) -> Part[Detector]:
    """Its network and post-processing in torso's parts: 0.24 M parameters, one map of stride 16, one prior a location.

    The score is objectness^0.6 * class^0.4, where classes are a softmax without background and stand beside an
    objectness with a tower of its own. Images are warped to size_hw, whose size is the prior's: sizes are its shares.
    """
    return part(
        Detector,
        backbone=part(ShuffleNetV2),
        neck=part(FastestDet, stride=16, channels=96),
        head=part(
            DenseHead,
            num_classes=num_classes,
            finest=16,
            coarsest=16,
            channels=96,
            tower=1,
            tower_kernel=5,
            depthwise=True,
            norm="bn",
            out_kernel=1,
            priors=part(Shapes, sizes=(((float(size_hw[1]), float(size_hw[0])),),), offset=0.0),
            coder=part(FastestDetCoder),
            scores="softmax",
            background=False,
            quality="own",
            quality_share=0.6,
            score_threshold=0.001,
        ),
        suppression=part(NMS, iou_threshold=0.45),
        input=part(Fixed, size_hw=size_hw),
    )


def _folded(state: Mapping[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution and the norm behind it as one."""
    factor = state[f"{norm}.weight"] * torch.rsqrt(state[f"{norm}.running_var"] + _EPS)
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * factor
    return state[f"{conv}.weight"] * factor[:, None, None, None], bias


def _pairs(theirs: str, ours: str, places: tuple[tuple[int, str], ...]) -> Rules:
    """Rules of a flat sequence: the number of a layer in theirs, and the name of the module that holds it here."""
    return tuple((rf"{theirs}\.{place}\.(.+)", rf"{ours}{name}.\1") for place, name in places)


def _chains() -> Rules:
    """S1, S2, S3: convolution, norm and ReLU take three places each."""
    return tuple(
        rule
        for length in (1, 2, 3)
        for i in range(length)
        for rule in _pairs(
            rf"SPP\.S{length}", f"neck.0.chains.{length - 1}.{i}", ((3 * i, ".conv"), (3 * i + 1, ".norm"))
        )
    )


def _stages() -> Rules:
    main = ((0, "0.conv"), (1, "0.norm"), (3, "1.conv"), (4, "1.norm"), (5, "2.conv"), (6, "2.norm"))
    side = ((0, "0.conv"), (1, "0.norm"), (2, "1.conv"), (3, "1.norm"))
    return tuple(
        (rf"backbone\.stage{stage}\.(\d+)\.branch_{theirs}\.{place}\.(.+)",
         rf"backbone.stages.{stage - 2}.\1.{ours}.{name}.\2")
        for stage in (2, 3, 4)
        for theirs, ours, places in (("main", "main", main), ("proj", "side", side))
        for place, name in places
    )  # fmt: skip


_CONV_NORM = ((0, ".conv"), (1, ".norm"))
_RULES: Rules = (
    *_pairs(r"backbone\.first_conv", "backbone.stem", _CONV_NORM),
    *_stages(),
    *_pairs(r"SPP\.Conv1x1\.conv1x1", "neck.0.gather", _CONV_NORM),
    *_chains(),
    *_pairs(r"SPP\.output", "neck.0.mix", _CONV_NORM),
    *_pairs(r"detect_head\.conv1x1\.conv1x1", "neck.0.out", _CONV_NORM),
    *(
        rule
        for theirs, ours in (("obj", "quality"), ("reg", "box"), ("cls", "cls"))
        for rule in _pairs(rf"detect_head\.{theirs}_layers\.conv5x5", f"head.branches.0.{ours}_tower.0", _CONV_NORM)
    ),
)
