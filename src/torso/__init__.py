"""torso: object detectors composed of parts, each swapped by one flag. Importing it does not import torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from torso._version import __version__ as __version__

if TYPE_CHECKING:
    from torso.compose import compose_model as compose_model
    from torso.compose import create as create
    from torso.engine.train import train as train
    from torso.inference.detections import Detections as Detections
    from torso.inference.predictor import Predictor as Predictor
    from torso.loop import batches as batches
    from torso.loop import evaluate as evaluate
    from torso.loop import open_dataset as open_dataset
    from torso.models.detector import Detector as Detector
    from torso.parts import Part as Part
    from torso.parts import PartError as PartError
    from torso.parts import describe as describe
    from torso.parts import find as find
    from torso.parts import names as names
    from torso.parts import part as part
    from torso.training.compose_recipe import compose_recipe as recipe  # noqa: F401 - another name than at home
    from torso.training.criteria._base import loss_of as loss_of
    from torso.weights import load as load
    from torso.weights import save as save
    from torso.weights import transfer as transfer
    from torso.yaml_text import from_yaml as from_yaml
    from torso.yaml_text import to_yaml as to_yaml

# Where each public name is, "" where it is called there as here.
_HOME = {
    "Detections": ("torso.inference.detections", ""),
    "Detector": ("torso.models.detector", ""),
    "Part": ("torso.parts", ""),
    "PartError": ("torso.parts", ""),
    "Predictor": ("torso.inference.predictor", ""),
    "batches": ("torso.loop", ""),
    "compose_model": ("torso.compose", ""),
    "create": ("torso.compose", ""),
    "describe": ("torso.parts", ""),
    "evaluate": ("torso.loop", ""),
    "find": ("torso.parts", ""),
    "from_yaml": ("torso.yaml_text", ""),
    "load": ("torso.weights", ""),
    "loss_of": ("torso.training.criteria._base", ""),
    "names": ("torso.parts", ""),
    "open_dataset": ("torso.loop", ""),
    "part": ("torso.parts", ""),
    "recipe": ("torso.training.compose_recipe", "compose_recipe"),
    "save": ("torso.weights", ""),
    "to_yaml": ("torso.yaml_text", ""),
    "train": ("torso.engine.train", ""),
    "transfer": ("torso.weights", ""),
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        module, there = _HOME[name]
        return getattr(importlib.import_module(module), there or name)
    raise AttributeError(f"module 'torso' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
