"""The contract of a model: what recipes, weight files and the engine ask of any network, whatever its task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import nn

from torso.heads._base import ClassRows
from torso.inputs._base import Input
from torso.parts import Part, produced


class Model(nn.Module):
    """images (torso.types.Images) -> raw predictions. Built from keyword arguments alone; it knows no target.

    task: the short name of its task (folder tasks), or "module:Class" for one outside torso.
    classes_argument: dotted path, in the Part of such a model, of its number of classes.
    names: one a class; num_classes of them. input: the size at which images are presented; multiple: of padded sides,
    px.
    """

    task: ClassVar[str]
    classes_argument: ClassVar[str] = "num_classes"

    names: tuple[str, ...]
    num_classes: int
    input: Input
    multiple: int

    @property
    def device(self) -> torch.device:
        """Where its parameters lie."""
        return next(self.parameters()).device

    def published_parameters(self) -> Iterable[nn.Parameter]:
        """Those that came pretrained where weights were loaded: the recipe's backbone_lr is for them."""
        return ()

    def load_pretrained(self, source: str) -> None:
        """Take published weights: "hub" or a local file. ValueError where they cannot be had."""
        raise ValueError(f"{type(self).__name__} takes no pretrained weights ({source}); leave pretrained out")

    def class_rows(self, parameter: str) -> ClassRows | None:
        """How the classes lie in the parameter of this name, None where it has none: see Head.class_rows."""
        return None


def class_count(model: Part[Any]) -> int:
    """The number of classes that the Part of a model says."""
    value: Any = model
    for name in _path(model).split("."):
        value = value.get(name)
    return int(value)


def with_class_count(model: Part[Any], number: int) -> Part[Any]:
    """The same model for so many classes."""
    return model.override(_path(model), number)


def _path(model: Part[Any]) -> str:
    kind: Any = produced(model)
    path: str = kind.classes_argument
    return path
