"""Training recipes by name: a zoo model's recipe, or a YAML file, with any part swapped and any number changed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torso.compose import Chain, Choice, asked_of_backbone, built_on_meta, called, named_part, swap_model, trainable
from torso.folders import entry
from torso.foreign import Allow, honours_allow, is_foreign
from torso.models.detector import Detector
from torso.parts import Part, PartError, arguments, find, names, nearest, part, produced
from torso.training.criteria._base import Criterion
from torso.training.recipes.recipe import Recipe, with_classes
from torso.yaml_text import from_yaml

# What another assigner or loss takes over: the others' numbers share names, not meanings (ATSS's candidates are
# neighbours a level, SimOTA's are overlaps that are summed; radius 0 is FCOS's "anywhere inside").
_KEEPS = {"assigners": ("point_scale",), "losses": ("smoothing",), "samplers": ()}


@honours_allow
def compose_recipe(
    name: str | Path,
    *,
    num_classes: int | None = None,
    backbone: Choice | None = None,
    neck: Chain | None = None,
    head: Choice | None = None,
    criterion: Choice | None = None,
    assigner: Choice | None = None,
    cls_loss: Choice | None = None,
    box_loss: Choice | None = None,
    sampler: Choice | None = None,
    suppression: Choice | None = None,
    input: Choice | None = None,
    overrides: Mapping[str, object] | None = None,
    allow: Allow = (),
) -> Part[Recipe]:
    """How a zoo model is trained, with parts swapped and arguments changed; `check` says whether it can learn.

    Args:
        name: of the zoo, the path of a YAML file that holds a recipe, or "module:function" from outside torso: it has
            the argument num_classes and returns the Part of a recipe, or of a detector whose head has one in torso.
        num_classes: None takes the zoo's or the file's own; rpn keeps its one class whatever it is.
        head: the criterion of that head's own recipe comes along; heads without one keep the present criterion.
        criterion: in place of that one; arguments that both know by name carry over.
        assigner, cls_loss, box_loss, sampler: swapped inside the criterion, at the paths of its `slots`; in a two-stage
            criterion those of its second stage. "none" of a sampler: every prior counts.
        overrides: {dotted path: value}: the recipe's own arguments ("lr", "criterion.box.weight"); the model's and
            the criterion's may leave "model." and "criterion." out ("neck.channels", "assigner.positive").
        allow: modules outside torso; "mypkg.parts:Squeeze" may then stand wherever a name may.

    Without `pretrained` nothing of the backbone stays frozen, unless it was asked for here or stands in the file.
    Raises PartError, naming the nearest names.
    """
    from_file = isinstance(name, Path) or str(name).endswith((".yaml", ".yml"))
    recipe = _from_file(name, num_classes) if from_file else _from_zoo(str(name), num_classes)
    model = swap_model(
        recipe.get("model"), backbone=backbone, neck=neck, head=head, suppression=suppression, input=input
    )
    chosen: Part[Any] = recipe.get("criterion")
    if head is not None:
        chosen = _criterion_of(model.get("head"), chosen)
    if criterion is not None:
        chosen = chosen.swapped(named_part(criterion, "criteria"))
    for slot, kind, choice in (
        ("assigner", "assigners", assigner),
        ("cls_loss", "losses", cls_loss),
        ("box_loss", "losses", box_loss),
        ("sampler", "samplers", sampler),
    ):
        if choice is not None:
            chosen = _swapped_inside(chosen, slot, kind, choice, model)
    recipe = recipe.with_args(model=model, criterion=chosen)
    for path, value in (overrides or {}).items():
        recipe = recipe.override(full_path(recipe, path.replace("-", "_")), value)
    if recipe.get("pretrained") is None and not from_file:
        kept = trainable(recipe.get("model"), asked=asked_of_backbone(backbone, overrides))
        recipe = recipe.with_args(model=kept)
    return recipe


def check(recipe: Part[Recipe]) -> Any:
    """Build the model without memory for its weights and ask the criterion whether it can train it.

    Returns the model (on the meta device: shapes and specs, no values). Raises ValueError with the reason and the
    remedy for a combination that cannot be built or cannot learn.
    """
    built = built_on_meta(recipe)
    model = built_on_meta(built.model)
    criterion: Criterion = built.criterion.build()
    criterion.check(model)
    return model


def full_path(recipe: Part[Recipe], path: str) -> str:
    """The path with "model." or "criterion." in front where they were left out.

    Raises PartError where none of the three has the argument.
    """
    first = path.partition(".")[0]
    if recipe.accepts(first):
        return path
    model, criterion = recipe.get("model"), recipe.get("criterion")
    for prefix, owner in (("model", model), ("criterion", criterion)):
        today = owner.today(path)
        if owner.accepts(today.partition(".")[0]):
            return f"{prefix}.{today}"
    known = [*arguments(recipe.target), *arguments(model.target), *arguments(criterion.target)]
    raise PartError(f"nothing in the recipe is called {first!r}; {nearest(first, known)}")


def _from_zoo(name: str, num_classes: int | None) -> Part[Recipe]:
    function = find(name, "zoo")  # names the nearest models, not the recipes' machinery
    if not is_foreign(name) and name in names("recipes"):
        return called(find(name, "recipes"), num_classes)
    return _from_outside(called(function, num_classes))


def _from_outside(made: Part[Any]) -> Part[Recipe]:
    """The recipe that a function of another package gave, or the one of the head of the detector that it gave."""
    if made.target is Recipe:
        return made
    if not issubclass(produced(made), Detector):
        raise PartError(f"expected the Part of a Detector or of a Recipe, got the part {made.name}")
    model = made if made.accepts("head") else made.target(**dict(made.args))
    kind, _, short = model.get("head").name.partition(".")
    if kind != "heads" or short not in names("recipes"):
        raise PartError(
            f"the head {model.get('head').name} has no recipe in torso; return a recipe in the detector's place: "
            "part('recipes.recipe', model=..., criterion=...)"
        )
    recipe: Part[Recipe] = find(short, "recipes")()
    return recipe.with_args(model=model)


def _from_file(path: str | Path, num_classes: int | None) -> Part[Recipe]:
    recipe = from_yaml(Path(path))
    if produced(recipe) is not Recipe:
        raise PartError(
            f"{path} holds a {recipe.name}, which is no recipe; "
            "print one with `torso show MODEL`, or put the model under 'model' of part 'recipes.recipe'"
        )
    if recipe.target is not Recipe:
        recipe = recipe.target(**dict(recipe.args))  # a zoo recipe by name: what it returns can be changed
    return recipe if num_classes is None else with_classes(recipe, num_classes)


def recipe_of_head(head: Part[Any]) -> str | None:
    """The recipe whose model has a head of this class; None for a head of no paper (the generic one, a foreign one).

    A paper's recipe is called as the file that defines its head, so that file is asked first. A head of heads/ may have
    another name than its paper (grid is YOLOv1's): then it is looked for in all.
    """
    kind, _, short = head.name.partition(".")
    if kind != "heads":
        return None
    home = _file_of("heads", short)
    for name in sorted(names("zoo"), key=lambda name: _file_of("recipes", name) != home):
        if find(name, "recipes")().get("model").get("head").target is head.target:
            return name
    return None


def _file_of(kind: str, name: str) -> str:
    return entry(kind, name).module.rpartition(".")[2]


def _criterion_of(head: Part[Any], present: Part[Criterion]) -> Part[Criterion]:
    """The criterion by which the head's paper trains it; the present one for a head of no paper."""
    name = recipe_of_head(head)
    if name is None:
        return present
    made: Part[Criterion] = find(name, "recipes")().get("criterion")
    return made


def _swapped_inside(
    criterion: Part[Criterion], slot: str, kind: str, choice: Choice, model: Part[Detector]
) -> Part[Criterion]:
    """The criterion with another assigner or loss; PartError, naming those that fit, where this one does not."""
    cls: type[Criterion] = produced(criterion)
    path = cls.slots.get(slot)
    if path is None:
        known = f"the criterion {criterion.name} has no {slot}"
        raise PartError(
            f"{cls.fixed.get(slot, known)}, so there is nothing to swap",
            remedies=[f"leave {slot} out", {"head": "retinanet"}, {"head": "fcos"}],
        )
    old, new = _at(criterion, path), None if kind == "samplers" and choice == "none" else named_part(choice, kind)
    if old is not None and new is not None:
        same = new.target is old.target
        kept = old if same else Part(old.target, {k: v for k, v in old.args if k in _KEEPS[kind]})
        new = kept.swapped(new)
    try:
        return criterion.override(path, new)
    except PartError:
        given = "none" if new is None else new.name.partition(".")[2]
        raise PartError(
            f"{given} is no {slot} for the criterion {criterion.name}, which wants {cls.wants[slot]}",
            remedies=[{f"criterion.{path}": name} for name in _fitting(criterion, path, kind, model)],
        ) from None


def _at(criterion: Part[Criterion], path: str) -> Part[Any] | None:
    """The part at a dotted path."""
    found: Any = criterion
    for name in path.split("."):
        found = found.get(name)
    return cast("Part[Any] | None", found)


def _fitting(criterion: Part[Criterion], path: str, kind: str, model: Part[Detector]) -> list[str]:
    """Names that the criterion takes; where the model can be built, as before its overrides, that train it too."""
    made = {}
    for name in names(kind):
        with contextlib.suppress(PartError):
            made[name] = criterion.override(path, part(find(name, kind)))
    try:
        built = built_on_meta(model)
    except ValueError:
        return list(made)
    return [name for name, one in made.items() if _trains(one, built)] or list(made)


def _trains(criterion: Part[Criterion], model: Detector) -> bool:
    try:
        criterion.build().check(model)
    except ValueError:
        return False
    return True
