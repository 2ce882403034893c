"""The necks of mmdet 3.3.0 and torchvision beside ours in neck_speed.py."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import types
from collections import OrderedDict
from typing import Any

PEERS = {"nas_fpn": ("torso-avg", "mmdet"), "fpn": ("torchvision", "mmdet"), "pan": ("mmdet",)}
"""Who stands beside ours; torso-avg is ours with mmdet's gate."""


def versions() -> dict[str, str]:
    """Of the peers; "absent" where they are not installed."""
    found = {}
    for name in ("mmdet", "mmcv-lite", "mmengine"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def torchvision_fpn(incoming: list[int], width: int) -> Any:
    """From the list of incoming maps (of so many channels) to the list of P3 to P7."""
    from torch import nn
    from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

    class ByName(nn.Module):
        """It takes and gives dictionaries."""

        def __init__(self) -> None:
            super().__init__()
            self.fpn = FeaturePyramidNetwork(incoming, width, LastLevelP6P7(width, width))

        def forward(self, maps: list[Any]) -> list[Any]:
            return list(self.fpn(OrderedDict((f"c{i}", x) for i, x in enumerate(maps))).values())

    return ByName()


def mmdet_neck(neck: str, incoming: list[int], width: int) -> Any:
    """ "nas_fpn", "fpn" or "pan" of its code; ModuleNotFoundError where that is not installed."""
    stand_in_for_packages()
    from mmdet.models.necks.fpn import FPN
    from mmdet.models.necks.nas_fpn import NASFPN
    from mmdet.models.necks.pafpn import PAFPN

    if neck == "nas_fpn":
        norm = {"type": "BN", "eps": 1e-3, "momentum": 0.01}
        return NASFPN(incoming, width, 5, stack_times=7, norm_cfg=norm)
    extra = {"add_extra_convs": "on_output", "relu_before_extra_convs": True}
    return {"fpn": FPN, "pan": PAFPN}[neck](incoming, width, 5, **extra)


def stand_in_for_packages() -> None:
    """Packages of mmdet as bare folders, so that the three files import what they use and no more.

    The packages' own __init__ import all of mmdet, mmcv's compiled operations (its lite form has none), OpenCV and
    matplotlib. Every module that is run is theirs; only the names that packages re-export are gathered here.
    """
    if "mmdet" in sys.modules:
        return
    gathered = {
        "mmengine.model": ("weight_init", "base_module"), "mmcv": (), "mmcv.cnn": ("bricks",), "mmcv.ops": (),
        "mmdet": (), "mmdet.utils": ("typing_utils",), "mmdet.models": (), "mmdet.models.necks": (),
    }  # fmt: skip
    for name, files in gathered.items():
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"{name} is not installed here")
        package = types.ModuleType(name)
        package.__path__ = list(spec.submodule_search_locations or ())
        package.__spec__ = spec
        sys.modules[name] = package
        for file in files:
            found = vars(importlib.import_module(f"{name}.{file}"))
            vars(package).update({k: v for k, v in found.items() if not k.startswith("__")})
