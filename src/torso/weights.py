"""Weights of a model in one safetensors file that says what they are: composition, class names, version.

Reading never runs code from the file and never goes to a hub. Training checkpoints say the same of themselves and are
read too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from torso._tensors import WeightsError, is_torch_file, misfit, read_safetensors, read_torch
from torso._transfer import TransferReport, move_weights
from torso._version import __version__
from torso.errors import expect
from torso.models._base import Model, class_count
from torso.parts import Part, PartError

__all__ = ["Bundle", "TransferReport", "WeightsError", "load", "metadata", "read", "save", "transfer", "write_atomic"]

FORMAT = "1"
# Where a training checkpoint keeps its record and the network's tensors; training.checkpoint and .task write them.
CHECKPOINT_KEY = "torso"
CHECKPOINT_PREFIX = "model."


class Bundle(NamedTuple):
    """A weight file, read: tensors by name, the model as plain data, class names, the data set's own ids if known."""

    state: dict[str, Tensor]
    model: dict[str, Any]
    names: tuple[str, ...]
    category_ids: tuple[int, ...] | None
    recipe: dict[str, Any] | None
    version: str


def save(
    path: str | Path,
    model: nn.Module,
    part: Part[Any],
    *,
    names: Sequence[str] | None = None,
    category_ids: Sequence[int] | None = None,
) -> None:
    """Write weights and what they are into one file, whole or not at all.

    Args:
        model: the model, or another module of the same tensors (an average of its weights).
        part: the Part that the model was built from, or the recipe that holds it.
        names: of the classes; by default those of the model. category_ids: the data set's own, in the same order.

    Raises ValueError where the names do not fit the classes.
    """
    expect("path", path, (str, Path), "the path of the file to write")
    expect("model", model, nn.Module, "a model")
    expect("part", part, Part, "the Part that the model was built from, or its recipe")
    if Path(path).is_dir():
        raise WeightsError(
            f"{path} is a folder; give the name of a file in it, such as {Path(path) / 'model.safetensors'}"
        )
    record = metadata(part, names=model.names if names is None else names, category_ids=category_ids)  # type: ignore[arg-type]
    # copies: safetensors refuses tensors that share memory
    state = {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
    write_atomic(Path(path), to_safetensors(state, metadata=record))


def metadata(part: Part[Any], *, names: Sequence[str], category_ids: Sequence[int] | None = None) -> dict[str, str]:
    """What a file says beside its tensors: the safetensors header, text by text.

    part: of the model, or the recipe that holds it. Raises ValueError where names or ids do not fit the classes.
    """
    is_recipe = part.accepts("model") and part.accepts("criterion")
    model: Part[Any] = part.get("model") if is_recipe else part
    classes = class_count(model)
    for what, given in (("class names", names), ("category ids", category_ids)):
        if given is not None and len(given) != classes:
            raise WeightsError(f"the model has {classes} classes, but {len(given)} {what} came: {list(given)[:20]}")
    return {
        "format": f"torso {FORMAT}",
        "model": json.dumps(model.to_dict()),
        "recipe": json.dumps(part.to_dict() if is_recipe else None),
        "names": json.dumps(list(names)),
        "category_ids": json.dumps(None if category_ids is None else [int(i) for i in category_ids]),
        "version": __version__,
    }


def load(path: str | Path, *, allow: Sequence[str] = ()) -> Any:
    """The model of a weight file (.safetensors) or of a training checkpoint (.ckpt), in eval mode, names set.

    allow: modules outside torso whose parts the file may name. Raises ValueError, in one sentence, for a file that is
    missing, cut short, no torso file, or whose tensors do not fit the model that it names.
    """
    bundle = read(path)
    part = _part(path, bundle, allow)
    with torch.random.fork_rng(devices=[]):  # building draws weights that are overwritten: no draw must be missed
        model: Model = part.build()
    differs = misfit(model.state_dict(), bundle.state)
    if differs:
        raise WeightsError(
            f"{path} does not fit the model that it names ({differs}); it was changed after it was written, or by "
            f"another version (torso {bundle.version})",
            remedies=["start from it with transfer()", {"init": str(path)}],
        )
    model.load_state_dict(bundle.state)
    if len(bundle.names) != model.num_classes:
        raise WeightsError(f"{path} names {len(bundle.names)} classes, but its model has {model.num_classes}")
    model.names = bundle.names
    return model.eval()


def _part(path: str | Path, bundle: Bundle, allow: Sequence[str]) -> Part[Any]:
    """The model that the file names; what is wrong with it is told with the file's name."""
    try:
        return Part.from_dict(bundle.model, allow=allow)
    except PartError as error:
        raise error.found_in(path) from None


def transfer(model: Model, source: str | Path, *, strict: bool = True) -> TransferReport:
    """Start `model` from a weight file or checkpoint of torso, whatever its classes and parts.

    Tensors of equal name and shape are copied; of the outputs that are per class, the rows of the classes that both
    lists name (model.names); everything else keeps its present values. The report reads as text.

    Raises ValueError where nothing fits (strict).
    """
    expect("model", model, Model, "a model, as torso.create gives it")
    bundle = read(source)
    report = move_weights(model, bundle.state, bundle.names)
    if strict and not report.kept and not report.mapped:
        raise WeightsError(
            f"nothing in {source} fits this model: {len(report.dropped)} tensors, none of equal name "
            "and shape; compose the same backbone, neck or head, or train without it"
        )
    return report


def read(path: str | Path) -> Bundle:
    """Everything in a weight file, training checkpoint or run's folder, tensors on the CPU; nothing is built."""
    expect("path", path, (str, Path), "the path of a weight file or of a run's folder")
    path = Path(path)
    if path.is_dir():
        path = path / "model.safetensors"  # a run's folder
    if not path.is_file():
        raise WeightsError(
            f"no weight file at {path}; give a .safetensors or .ckpt file that torso wrote, or a run's folder"
        )
    return _read_checkpoint(path) if is_torch_file(path) else _read_safetensors(path)


def write_atomic(path: Path, data: bytes) -> None:
    """Write through a temporary file beside it: after a crash `path` holds the old bytes or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name, too, must outlive a power cut
        finally:
            os.close(folder)


def _read_safetensors(path: Path) -> Bundle:
    record, state = read_safetensors(path)
    if not record.get("format", "").startswith("torso "):
        raise _not_ours(path)
    if record["format"] != f"torso {FORMAT}":
        raise WeightsError(f"{path} has format {record['format']!r}; this torso reads 'torso {FORMAT}': update torso")
    try:
        plain = {k: json.loads(record[k]) for k in ("model", "recipe", "names", "category_ids")}
        return _bundle(state, plain["model"], plain["recipe"], {**plain, "version": record["version"]})
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from None


def _read_checkpoint(path: Path) -> Bundle:
    saved = read_torch(path)
    record = saved.get(CHECKPOINT_KEY) if isinstance(saved, Mapping) else None
    if not isinstance(record, Mapping):
        raise _not_ours(path)
    cut = len(CHECKPOINT_PREFIX)
    try:
        own = {k[cut:]: v for k, v in saved["state_dict"].items() if k.startswith(CHECKPOINT_PREFIX)}
        average = record.get("ema")  # the weights that are evaluated and published, where there are such
        return _bundle(average or own, record["recipe"]["model"], record["recipe"], record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, error) from None


def _bundle(state: Any, model: Any, recipe: Any, record: Mapping[str, Any]) -> Bundle:
    ids = record.get("category_ids")
    return Bundle(
        dict(state),
        dict(model),
        tuple(map(str, record["names"])),
        None if ids is None else tuple(map(int, ids)),
        None if recipe is None else dict(recipe),
        str(record.get("version", "unknown")),
    )


def _not_ours(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} is no torso weight file: it does not say which model it holds; build the model yourself and load the "
        "tensors with load_state_dict (torchvision_to_torso in torso.zoo.retinanet and the like renames torchvision's)"
    )


def _damaged(path: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{path}: the record of the model is damaged ({error!r}); take an earlier copy")
