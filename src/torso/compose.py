"""Composition by name: a zoo model with any of its parts swapped, as a Part that can still be changed, or built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torso.blocks._base import Block
from torso.errors import expect, mismatch
from torso.folders import chained
from torso.foreign import Allow, honours_allow, is_foreign
from torso.heads._base import Head
from torso.models.detector import Detector
from torso.necks.at_levels import AtLevels
from torso.parts import Part, PartError, find, is_name, named, names, nearest, part, produced, qualified_name
from torso.yaml_text import from_yaml, to_yaml

__all__ = ["compose_model", "create", "from_yaml", "swap_model", "to_yaml"]

Choice = str | Part[Any]
Chain = str | Part[Any] | Sequence[str | Part[Any]]
T = TypeVar("T")

# An overlap threshold means one thing to hard suppression and another to soft; the new method keeps its own.
_SUPPRESSION_OWN = ("iou_threshold",)
# So do widths and strides: of stages, of new levels, of the backbone's levels or of blocks, which are not equally many.
_NECK_OWN = ("widths", "strides")
# Of a backbone only how it is trained carries over, and blocks that were put into it: its size and form are its name's.
_BACKBONE_KEEPS = ("frozen_stride", "frozen_norm", "checkpointing", "drop_path", "block", "block_strides")


@honours_allow
def compose_model(
    name: str,
    *,
    num_classes: int | None = None,
    backbone: Choice | None = None,
    neck: Chain | None = None,
    head: Choice | None = None,
    suppression: Choice | None = None,
    input: Choice | None = None,
    overrides: Mapping[str, object] | None = None,
    allow: Allow = (),
) -> Part[Detector]:
    """A zoo model with some parts swapped and some arguments changed.

    Args:
        name: of the zoo. num_classes: None takes the zoo's own (80). rpn finds one class, "object", whatever it is.
        backbone: a part's short name or any timm model's name. head, suppression, input: short names.
        neck: a name, "none", several as "spp+pan" or a sequence; blocks may stand among them. A part may stand for
            each name.
        overrides: {dotted path: value}, e.g. {"neck.channels": "128"}; text is read by the argument's type.
        allow: modules outside torso; "mypkg.parts:Squeeze" may then stand wherever a name may, name itself included (a
            function with the argument num_classes that returns the Part of a Detector).

    Arguments that a new part shares by name with the one before it carry over (finest, coarsest, channels,
    num_classes ...), unless the new part sets them; of a backbone's only how it is trained (frozen_norm, drop_path ...)
    and its block. Raises PartError naming the nearest names.
    """
    expect("name", name, str, "the name of a model; torso.names('zoo') lists them")
    _check_classes(num_classes, None)
    expect("overrides", overrides, (Mapping, type(None)), "a mapping of dotted paths to values")
    model: Part[Any] = called(find(name, "zoo"), num_classes)
    if not issubclass(produced(model), Detector) and model.accepts("model"):
        model = model.get("model")  # what is named outside torso may give a recipe
    model = swap_model(model, backbone=backbone, neck=neck, head=head, suppression=suppression, input=input)
    for path, value in (overrides or {}).items():
        model = model.override(path.replace("-", "_"), value)
    return model


@honours_allow
def create(
    name: str,
    *,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    backbone: Choice | None = None,
    neck: Chain | None = None,
    head: Choice | None = None,
    suppression: Choice | None = None,
    input: Choice | None = None,
    overrides: Mapping[str, object] | None = None,
    pretrained: str | Path | bool | None = None,
    allow: Allow = (),
) -> Detector:
    """The built model of `compose_model`, in training mode.

    Args:
        class_names: one a class; num_classes follows from them where it is not given.
        pretrained: weights of the backbone: "hub" or True (its publisher's download) or a local file. None or False
            starts at random, and then nothing stays frozen (see `trainable`).
        allow: modules outside torso whose parts may be named, as in compose_model.

    Raises PartError for what cannot be composed, ValueError where pretrained weights cannot be had.
    """
    _check_classes(num_classes, class_names)
    expect("pretrained", pretrained, (str, Path, bool, type(None)), "'hub', True, or the path of a weight file")
    weights = {True: "hub", False: None}[pretrained] if isinstance(pretrained, bool) else pretrained
    if class_names is not None:
        num_classes = len(class_names) if num_classes is None else num_classes
        if num_classes != len(class_names):
            raise PartError(f"num_classes={num_classes}, but {len(class_names)} class names came: {list(class_names)}")
    model = compose_model(
        name,
        num_classes=num_classes,
        backbone=backbone,
        neck=neck,
        head=head,
        suppression=suppression,
        input=input,
        overrides=overrides,
    )
    if weights is None:
        model = trainable(model, asked=asked_of_backbone(backbone, overrides))
    built = model.build()
    if class_names is not None:
        built.names = tuple(class_names)
    if weights is not None:
        built.backbone.load_pretrained(str(weights))
    return built


def _check_classes(num_classes: object, class_names: object) -> None:
    expect("num_classes", num_classes, (int, type(None)), "a whole number of at least 1")
    expect("class_names", class_names, (list, tuple, type(None)), "a list of names")
    if isinstance(class_names, list | tuple) and not all(isinstance(name, str) for name in class_names):
        raise mismatch("class_names", "a list of names", class_names)


def called(function: Callable[..., Part[T]], num_classes: int | None) -> Part[T]:
    """A zoo model or recipe for so many classes; one of a class-agnostic head keeps its own."""
    if inspect.isclass(function) or "num_classes" not in inspect.signature(function).parameters:
        raise PartError(f"{qualified_name(function)} is no model: expected a function with the argument num_classes")
    made = function()
    if not isinstance(made, Part):
        raise PartError(f"{qualified_name(function)} must return a Part; it returns a {type(made).__name__}")
    if num_classes is None:
        return made
    model: Part[Any] = made.get("model") if made.accepts("model") else made
    return made if finds_objects_only(model) else function(num_classes=num_classes)


def finds_objects_only(model: Part[Detector]) -> bool:
    """Whether the model's head finds one class, "object", whatever the data's classes are."""
    if not model.accepts("head"):
        return False
    head: type[Head] = produced(model.get("head"))
    return head.objects_only


def trainable(model: Part[Detector], *, asked: Collection[str] = ()) -> Part[Detector]:
    """The model with nothing of its backbone frozen, except by the arguments named in `asked`.

    The papers freeze the first stages and the norms because they come pretrained; frozen random ones never learn.
    """
    backbone: Part[Any] = model.get("backbone")
    free = {"frozen_stride": 0, "frozen_norm": False}
    changes = {k: v for k, v in free.items() if k not in asked and backbone.accepts(k) and backbone.get(k) != v}
    return model.with_args(backbone=backbone.with_args(**changes)) if changes else model


def asked_of_backbone(backbone: Choice | None, overrides: Mapping[str, object] | None) -> set[str]:
    """The backbone's arguments that the caller set himself, by a part or by dotted paths."""
    by_path = {path.replace("-", "_").rpartition("backbone.")[2] for path in overrides or () if "backbone." in path}
    return by_path | ({k for k, _ in backbone.args} if isinstance(backbone, Part) else set())


def swap_model(
    model: Part[Detector],
    *,
    backbone: Choice | None = None,
    neck: Chain | None = None,
    head: Choice | None = None,
    suppression: Choice | None = None,
    input: Choice | None = None,
) -> Part[Detector]:
    """A detector part with the named parts in place of its own; None keeps."""
    for slot, choice in {"backbone": backbone, "head": head, "suppression": suppression, "input": input}.items():
        expect(slot, choice, (str, Part, type(None)), "a name or a part")
    expect("neck", neck, (str, Part, list, tuple, type(None)), "a name, a part, or several of them")
    changes: dict[str, Any] = {}
    if backbone is not None:
        changes["backbone"] = _swapped_backbone(model.get("backbone"), _backbone(backbone))
    if neck is not None:
        changes["neck"] = _swapped_necks(model.get("neck"), _necks(neck))
    if head is not None:
        changes["head"] = model.get("head").swapped(named_part(head, "heads"))
    if suppression is not None:
        changes["suppression"] = _swapped_suppression(model.get("suppression"), named_part(suppression, "suppression"))
    if input is not None:
        changes["input"] = _swapped_input(model.get("input"), named_part(input, "inputs"))
    return model.with_args(**changes) if changes else model


def named_part(choice: Choice, kind: str) -> Part[Any]:
    """The part of a short name ("giou" or "smooth-l1"), or the part given."""
    if isinstance(choice, Part):
        return choice
    return named(choice if is_foreign(choice) else choice.replace("-", "_"), kind)


def _backbone(choice: Choice) -> Part[Any]:
    if isinstance(choice, Part) or is_foreign(choice) or is_name("backbones", choice):
        return named_part(choice, "backbones")
    import timm

    from torso.backbones.timm import Timm

    if not timm.is_model(choice.split(".")[0]):
        hint = nearest(choice, [*names("backbones"), *timm.list_models()])
        raise PartError(f"no backbone and no timm model is called {choice!r}; {hint}")
    return part(Timm, name=choice)


def _swapped_backbone(old: Part[Any], new: Part[Any]) -> Part[Any]:
    """The new backbone, trained like the old one, but for what it cannot take: dropped paths, a frozen stride."""
    out = Part(old.target, {k: v for k, v in old.args if k in _BACKBONE_KEEPS}).swapped(new)
    carried = dict(out.args).keys() - dict(new.args).keys()
    free = out.with_args(frozen_stride=0) if "frozen_stride" in carried else out
    if "drop_path" in carried and not _can_be_built(free):
        out, free = out.with_args(drop_path=0.0), free.with_args(drop_path=0.0)
    if "frozen_stride" not in carried or not out.get("frozen_stride"):
        return out
    has = [s.stride for s in built_on_meta(free).out_specs]
    return out if out.get("frozen_stride") in has else free


def _can_be_built(p: Part[Any]) -> bool:
    try:
        built_on_meta(p)
    except ValueError:
        return False
    return True


def _necks(choice: Chain) -> tuple[Part[Any], ...]:
    if isinstance(choice, str):
        choice = chained(choice)
    return tuple(map(_neck, (choice,) if isinstance(choice, Part) else choice))


def _neck(choice: Choice) -> Part[Any]:
    """The neck of that name; a block, by name or as a part, becomes a neck that puts it at the levels it belongs to."""
    expect("neck", choice, (str, Part), "a name or a part")
    if isinstance(choice, str):
        name = choice.replace("-", "_")
        if not is_foreign(choice) and not is_name("necks", name) and not is_name("blocks", name):
            hint = nearest(choice, [*names("necks"), *names("blocks")])
            raise PartError(f"no neck is called {choice!r}; {hint}")
        choice = named_part(choice, "blocks" if is_name("blocks", name) and not is_name("necks", name) else "necks")
    return part(AtLevels, block=choice) if issubclass(produced(choice), Block) else choice


def _swapped_necks(old: Part[Any] | tuple[Part[Any], ...] | None, new: tuple[Part[Any], ...]) -> Any:
    """The new chain; each member takes what it shares with the last of the old ones. One alone stays a single part.

    Where blocks go is their own affair: the last old one that is no block's is asked, and gives `finest`.
    """
    olds = [n for n in (old if isinstance(old, tuple) else (old,)) if n is not None and n.target is not AtLevels]
    chain = tuple(_without(olds[-1], _NECK_OWN, n).swapped(n) for n in new) if olds else new
    return chain[0] if len(chain) == 1 else chain


def _swapped_input(old: Part[Any], new: Part[Any]) -> Part[Any]:
    """The new policy; one that lies over another (tiles, pyramid) and names none lies over the old one."""
    out = old.swapped(new)
    return out.with_args(inner=old) if out.accepts("inner") and "inner" not in dict(out.args) else out


def _swapped_suppression(old: Part[Any], new: Part[Any]) -> Part[Any]:
    return _without(old, _SUPPRESSION_OWN, new).swapped(new)


def _without(old: Part[Any], own: Collection[str], new: Part[Any]) -> Part[Any]:
    """The old part with what the new one is to have of its own left out, unless both are of one class."""
    return old if old.target is new.target else Part(old.target, {k: v for k, v in old.args if k not in own})


def built_on_meta(p: Part[T]) -> T:
    """The part built without memory for its weights: for its specs and its checks."""
    import torch

    with torch.device("meta"):
        return p.build()
