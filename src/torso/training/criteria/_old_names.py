"""Arguments of criteria as they were called before terms were parts, and where they stand today; files still say them.

Read without torch, by `Part.from_dict`, by `Part.override` and by the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TWO_STAGE: Mapping[str, str] = MappingProxyType(
    {"cls_loss": "cls.loss", "box_loss": "box.loss", "box_weight": "box.weight"}
)
DENSE: Mapping[str, str] = MappingProxyType(
    {
        **TWO_STAGE,
        "cls_on": "cls.on",
        "cls_target": "cls.target",
        "cls_weight": "cls.weight",
        "box_weighting": "box.weighting",
        "quality_on": "quality.on",
        "quality_target": "quality.target",
        "quality_mix": "quality.mix",
        "quality_loss": "quality.loss",
        "quality_normaliser": "quality.normaliser",
        "quality_weight": "quality.weight",
        "positive_weight": "quality.positive_weight",
        "level_weights": "quality.level_weights",
        "dfl_loss": "distribution.loss",
        "dfl_weight": "distribution.weight",
    }
)
