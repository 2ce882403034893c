"""Tensors by name out of a file, and what keeps them from being those of a module. Reading runs no code of the file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from torso.errors import Refusal

_NAMED = 3  # of each kind of difference


class WeightsError(Refusal):
    """A weight file that cannot be used: the message says which, why, and what to do."""


def read_safetensors(path: Path) -> tuple[Mapping[str, str], dict[str, Tensor]]:
    """What the file says of itself, and its tensors on the CPU; WeightsError where it cannot be read."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            record: Mapping[str, str] = file.metadata() or {}
            return record, {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise WeightsError(
            f"{path} cannot be read as a weight file: cut short, damaged, or of another kind ({error}); "
            "copy it again or take an earlier one"
        ) from None


def read_torch(path: Path) -> Any:
    """What torch.save wrote, on the CPU; WeightsError where it is more than plain data or cannot be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors and plain data, and loading it could run code; torso does not "
            f"({str(error).strip().splitlines()[0]})"
        ) from None
    except (RuntimeError, OSError, EOFError) as error:
        why = str(error).strip().splitlines()[0]
        raise WeightsError(f"{path} cannot be read: cut short or damaged ({why}); take an earlier checkpoint") from None


def is_torch_file(path: Path) -> bool:
    """Whether torch.save wrote it, by its first bytes: a zip, or the pickle of before 1.6."""
    with path.open("rb") as file:
        head = file.read(9)
    # a safetensors file begins with the length of its JSON, whose bytes may be any
    return head[:2] in (b"PK", b"\x80\x02") and head[8:] != b"{"


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a state dict that torch.save wrote; told apart by what is in them."""
    if not path.is_file():
        raise WeightsError(f"no weight file at {path}; give a .safetensors or .pth file, or 'hub'")
    if not is_torch_file(path):
        return read_safetensors(path)[1]
    saved = read_torch(path)
    if not isinstance(saved, Mapping) or not all(isinstance(v, Tensor) for v in saved.values()):
        raise WeightsError(
            f"{path} holds something else than tensors by name; save a module's state_dict(), or give the .safetensors "
            "file of a run"
        )
    return dict(saved)


def misfit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """What keeps the given tensors from being the wanted ones, in a few words; empty where nothing does."""
    shared = [k for k in wanted if k in given and given[k].shape != wanted[k].shape]
    problems = (
        [f"{k} is missing" for k in wanted if k not in given],
        [f"{k} is not in the model" for k in given if k not in wanted],
        [f"{k} has shape {list(given[k].shape)} for {list(wanted[k].shape)}" for k in shared],
    )
    return ", ".join(_first(kind) for kind in problems if kind)


def _first(items: Sequence[str]) -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return ", ".join(items[:_NAMED]) + more
