"""Moving weights between models that differ: by name and shape, and class by class where the classes differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from torso.heads._base import ClassRows
from torso.models._base import Model


class TransferReport(NamedTuple):
    """What happened to each tensor, by name, and to each class; str() of it is meant to be read.

    kept: copied whole; mapped: rows of the shared classes copied; new: of the model, left as it was (with the reason);
    dropped: of the source, without use here. classes_*: names in both lists, only here, only in the source.
    """

    kept: tuple[str, ...]
    mapped: tuple[str, ...]
    new: tuple[tuple[str, str], ...]
    dropped: tuple[str, ...]
    classes_kept: tuple[str, ...]
    classes_new: tuple[str, ...]
    classes_dropped: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.kept) + len(self.mapped) + len(self.new)
        lines = [f"kept {len(self.kept)} of {total} tensors"]
        if self.mapped:
            lines.append(f"mapped {len(self.mapped)} tensors class by class: {_listed(self.mapped)}")
        if self.new:
            lines.append(f"new {len(self.new)} tensors: {_listed([f'{name} ({why})' for name, why in self.new])}")
        if self.dropped:
            lines.append(f"dropped {len(self.dropped)} tensors of the source: {_listed(self.dropped)}")
        for word, classes in (
            ("kept", self.classes_kept),
            ("new", self.classes_new),
            ("dropped", self.classes_dropped),
        ):
            if classes:
                lines.append(f"classes {word} ({len(classes)}): {_listed(classes)}")
        return "\n".join(lines)


def move_weights(model: Model, state: Mapping[str, Tensor], names: Sequence[str]) -> TransferReport:
    """Copy what fits of another model's tensors into `model`, in place; `names` are the other's classes."""
    own = model.state_dict()
    both = [(model.names.index(n), i) for i, n in enumerate(names) if n in model.names]
    kept, mapped, new = [], [], []
    with torch.no_grad():
        for name, target in own.items():
            layout = model.class_rows(name)
            source = state.get(name)
            if source is None:
                new.append((name, "not in the source"))
            elif layout is None or tuple(names) == model.names:
                if source.shape == target.shape:
                    target.copy_(source)
                    kept.append(name)
                else:
                    new.append((name, f"shape {list(source.shape)} there, {list(target.shape)} here"))
            elif both and _copy_rows(target, source, layout, len(model.names), len(names), both):
                mapped.append(name)
            else:
                new.append((name, "its classes lie otherwise there" if both else "no class in common"))
    return TransferReport(
        tuple(kept),
        tuple(mapped),
        tuple(new),
        tuple(k for k in state if k not in own),
        tuple(n for n in model.names if n in names),
        tuple(n for n in model.names if n not in names),
        tuple(n for n in names if n not in model.names),
    )


def _copy_rows(
    target: Tensor, source: Tensor, layout: ClassRows, here: int, there: int, both: Sequence[tuple[int, int]]
) -> bool:
    """Copy the rows of the classes in `both` (here, there), and of the background; False where the shapes forbid it."""
    columns_here, columns_there = here + layout.background, there + layout.background
    if source.shape[1:] != target.shape[1:] or source.shape[0] != layout.anchors * columns_there * layout.values:
        return False
    rows_here = target.view(layout.anchors, columns_here, layout.values, *target.shape[1:])
    rows_there = source.reshape(layout.anchors, columns_there, layout.values, *source.shape[1:])
    for to, of in [*both, *([(here, there)] if layout.background else [])]:
        rows_here[:, to] = rows_there[:, of]
    return True


def _listed(items: Sequence[str], most: int = 8) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
