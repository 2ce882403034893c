"""torso: object detectors composed of parts, each swapped by one flag. Importing it does not import torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from torso._version import __version__ as __version__

if TYPE_CHECKING:
    from torso.compose import compose_model as compose_model
    from torso.compose import create as create
    from torso.inference.detections import Detections as Detections
    from torso.models.detector import Detector as Detector
    from torso.parts import Part as Part
    from torso.parts import PartError as PartError
    from torso.parts import describe as describe
    from torso.parts import find as find
    from torso.parts import names as names
    from torso.parts import part as part
    from torso.weights import load as load
    from torso.weights import save as save
    from torso.weights import transfer as transfer
    from torso.yaml_text import from_yaml as from_yaml
    from torso.yaml_text import to_yaml as to_yaml

_HOME = {
    "torso.compose": ("compose_model", "create"),
    "torso.inference.detections": ("Detections",),
    "torso.models.detector": ("Detector",),
    "torso.parts": ("Part", "PartError", "describe", "find", "names", "part"),
    "torso.weights": ("load", "save", "transfer"),
    "torso.yaml_text": ("from_yaml", "to_yaml"),
}
_MODULE_OF = {name: module for module, listed in _HOME.items() for name in listed}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'torso' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
