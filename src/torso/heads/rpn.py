"""Region proposal network: objectness and boxes from one 3x3 convolution (Ren et al. 2015, arXiv 1506.01497)."""

from __future__ import annotations

from typing import ClassVar

from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.priors.anchors import Anchors
from torso.heads.dense import DenseHead
from torso.parts import part
from torso.types import Candidates, Images, RawPredictions


class RPNHead(
    DenseHead,
    num_classes=1,
    finest=4,
    coarsest=64,
    tower=1,
    joint_tower=True,
    out_kernel=1,
    priors=part(Anchors, base_scale=8.0, octave_scales=1, ratios=(0.5, 1.0, 2.0)),
    coder=part(DeltaCoder),
    prior_probability=0.5,
    score_threshold=0.0,
):
    """The dense head in the pyramid form (arXiv 1612.03144): one anchor side of 8 strides, three ratios, strides 4 to
    64. Objectness is one sigmoid; the 2015 paper has a softmax of two. By itself it detects one class, "object".
    """

    objects_only: ClassVar[bool] = True

    def decode(self, raw: RawPredictions, images: Images) -> Candidates:
        """As of any dense head, but a box without a side that is left in the image is an empty row (mmdetection)."""
        found = super().decode(raw, images)
        sound = (found.boxes[..., 2:] > found.boxes[..., :2]).all(-1)
        return found.changed(scores=found.scores.where(sound, 0.0), index=found.index.where(sound, -1))
