"""Every assigner on every dense model: it trains, or the refusal says what would."""

from __future__ import annotations

import pytest
import torch
from contract.test_zoo import MODELS
from contract_cases import check_gradients, images, smallest, targets

from torso.parts import Part, PartError, find, names
from torso.training.compose_recipe import check, compose_recipe
from torso.training.criteria._base import Criterion, loss_of
from torso.training.recipes.recipe import Recipe


def recipe_of(model: str, assigner: str | None = None) -> Part[Recipe]:
    return compose_recipe(model, num_classes=None if model == "rpn" else 3, assigner=assigner)


DENSE = [m for m in MODELS if find(m, "recipes")().get("criterion").accepts("assigner")]


@pytest.mark.parametrize("assigner", names("assigners"))
@pytest.mark.parametrize("model", DENSE)
def test_it_trains_or_says_what_would(model: str, assigner: str) -> None:
    recipe, refusal = composed(model, assigner)
    if recipe is None:
        assert refusal.remedies, refusal
        assert assigner != default_of(model), f"a model's own assigner is refused: {refusal}"
        return
    torch.manual_seed(0)
    net = recipe.get("model").build()
    criterion: Criterion = recipe.get("criterion").build()
    total, shares = loss_of(criterion(net, images((64, 96)), targets()))
    assert all(s.isfinite() and s >= 0 for s in shares.values()), shares
    total.backward()
    check_gradients(net)


def composed(model: str, assigner: str) -> tuple[Part[Recipe] | None, PartError]:
    """The recipe at its smallest, or why there is none."""
    try:
        recipe = smallest(recipe_of(model, assigner))
        check(recipe)
    except PartError as error:
        return None, error
    return recipe, PartError("")


def default_of(model: str) -> str:
    """The name of the model's own."""
    return str(recipe_of(model).get("criterion").get("assigner").name.rpartition(".")[2])
