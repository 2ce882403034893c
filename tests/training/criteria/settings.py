"""Criteria from flat settings, {"cls.loss": part(...), "per_level": True}, so that cases can be merged as dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torso.parts import Part, part
from torso.training.criteria.dense import DenseCriterion

T = TypeVar("T")


def changed(criterion: Part[T], settings: Mapping[str, Any]) -> Part[T]:
    for path, value in settings.items():
        criterion = criterion.override(path, value)
    return criterion


def dense(settings: Mapping[str, Any]) -> DenseCriterion:
    return changed(part(DenseCriterion), settings).build()
