"""An error's remedies as flags: the library's setting {"criterion.box.loss": "kl"} is --box-loss kl here."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from torso.errors import PartError, Remedy, Settings

SLOTS: Mapping[str, str] = {
    "backbone": "--backbone",
    "neck": "--neck",
    "head": "--head",
    "criterion": "--criterion",
    "criterion.assigner": "--assigner",
    "criterion.cls.loss": "--cls-loss",
    "criterion.cls_loss": "--cls-loss",
    "criterion.box.loss": "--box-loss",
    "criterion.box_loss": "--box-loss",
    "criterion.sampler": "--sampler",
    "suppression": "--suppression",
    "input": "--input",
}
"""Arguments that hold a whole part and have a flag of their own."""


def sentence(error: Exception) -> str:
    """The error with its remedies as flags: "...: choose --box-loss giou or iou, or add --head.finest=16"."""
    if not isinstance(error, PartError) or not error.remedies:
        return str(error).strip() or type(error).__name__
    groups = groupby(dict.fromkeys(map(_frozen, error.remedies)), key=_slot)
    return f"{error.message}: {', or '.join(_worded(slot, list(remedies)) for slot, remedies in groups)}"


def as_flags(settings: Settings) -> str:
    """Settings as they are typed, words after a space, numbers after =: "--assigner atss --head.finest=16"."""
    return " ".join(map(_flag, settings, settings.values()))


_Frozen = str | tuple[tuple[str, object], ...]


def _frozen(remedy: Remedy) -> _Frozen:
    return remedy if isinstance(remedy, str) else tuple(remedy.items())


def _slot(remedy: _Frozen) -> str | None:
    """The flag of a remedy that swaps one part, so that several names of it share a flag."""
    return SLOTS.get(remedy[0][0]) if not isinstance(remedy, str) and len(remedy) == 1 else None


def _worded(slot: str | None, remedies: list[_Frozen]) -> str:
    if slot is not None:
        return f"choose {slot} {' or '.join(_word(r[0][1]) for r in remedies if not isinstance(r, str))}"
    return ", or ".join(r if isinstance(r, str) else f"add {as_flags(dict(r))}" for r in remedies)


def _flag(path: str, value: object) -> str:
    if path in SLOTS:
        return f"{SLOTS[path]} {_word(value)}"
    between = " " if isinstance(value, str) or value is None else "="
    return f"--{path}{between}{_word(value)}"


def _word(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(_word, value)) if isinstance(value, list | tuple) else str(value)
