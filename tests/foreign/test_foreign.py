"""Parts from outside torso: looked up, refused, and named, without importing what is not permitted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreign.package import write_package

import torso
from torso.compose import compose_model
from torso.foreign import first_line, source
from torso.parts import Part, PartError, find, part
from torso.training.compose_recipe import check, compose_recipe

SMALL = {"backbone.name": "test_resnet", "head.channels": 16, "head.tower": 1, "head.coarsest": 32}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = write_package(tmp_path)
    monkeypatch.syspath_prepend(root)
    source.cache_clear()
    yield root
    source.cache_clear()
    for name in [m for m in sys.modules if m.split(".")[0] == "mypkg"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["mypkg.parts:Squeeze", "mypkg.broken:X"])
def test_what_is_not_permitted_is_not_imported(package: Path, tmp_path: Path, name: str) -> None:
    text = f"part: {name}\nchannels: 8\n"
    file = tmp_path / "it.yaml"
    file.write_text(text)
    for door in (
        lambda: find(name),
        lambda: Part.from_dict({"part": name}),
        lambda: torso.from_yaml(text),
        lambda: torso.from_yaml(file),
        lambda: compose_model("fcos", neck=name),
        lambda: compose_model(name),
        lambda: compose_recipe("fcos", neck=name),
        lambda: compose_recipe("fcos", overrides={"augment": name}),
        lambda: compose_recipe("fcos", neck=name, allow=("mypkgs", "my", "mypkg.other")),
    ):
        with pytest.raises(PartError, match=r"'mypkg\.\w+:\w+' lies outside torso .*if you trust mypkg: set allow="):
            door()
    assert not [m for m in sys.modules if m.split(".")[0] == "mypkg"]


def test_permission_ends_with_the_call(package: Path) -> None:
    model = compose_model("fcos", neck="mypkg.parts:Squeeze", overrides=SMALL, allow=("mypkg",))
    assert model.get("neck").name == "mypkg.parts:Squeeze"
    with pytest.raises(PartError, match="was not allowed"):
        find("mypkg.parts:Squeeze")
    assert torso.from_yaml(torso.to_yaml(model), allow="mypkg") == model


def test_the_environment_permits(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORSO_ALLOW", "other, mypkg")
    assert find("mypkg.parts:Squeeze").__name__ == "Squeeze"


def test_every_slot_takes_one(package: Path) -> None:
    recipe = compose_recipe(
        "fcos",
        num_classes=2,
        neck="mypkg.parts:Squeeze+mypkg.parts:Tint",
        assigner="mypkg.parts:MyAssigner",
        box_loss="mypkg.parts:MyLoss",
        suppression="mypkg.parts:MyNMS",
        input="mypkg.parts:MyInput",
        overrides={
            **SMALL,
            "augment": "mypkg.parts:Same",
            "head.coder": "mypkg.parts:MyCoder",
            "backbone.block": "mypkg.parts:Tint",
            "backbone.block_strides": "16",
        },
        allow=("mypkg.parts",),
    )
    check(recipe)
    text = torso.to_yaml(recipe)
    assert text.count("mypkg.parts:") == 9
    assert torso.from_yaml(text, allow=("mypkg",)) == recipe
    with pytest.raises(PartError, match=r"the YAML text: 'mypkg\.parts:"):
        torso.from_yaml(text)


def test_a_model_of_ones_own(package: Path) -> None:
    recipe = compose_recipe("mypkg.parts:small", num_classes=3, allow=("mypkg",))
    assert recipe.get("model").get("head").get("num_classes") == 3
    assert recipe.get("criterion") == compose_recipe("fcos").get("criterion")
    assert torso.create("mypkg.parts:small", class_names=("a", "b"), allow=("mypkg",)).names == ("a", "b")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("mypkg.nowhere:Squeeze", r"names the module mypkg\.nowhere, which is not there; install its package"),
        ("mypkgs.parts:Squeeze", r"names the module mypkgs, which is not there"),
        ("mypkg.broken:Squeeze", r"cannot be imported: RuntimeError: no such$"),
        ("mypkg.needy:Squeeze", r"cannot be imported: No module named 'a_library_that_is_not_there'"),
        ("mypkg.parts:Squeezed", r"defines no class called 'Squeezed'; it defines Squeeze, Tint"),
        ("mypkg.parts:Neck", r"it imports it; name its home: 'torso\.necks\._base:Neck'"),
        ("mypkg.parts:np", r"defines no class called 'np'"),
        ("mypkg/parts:Squeeze", r"expected a name such as 'mypkg\.parts:Squeeze' \(module:Class\), got"),
        (":Squeeze", r"expected a name such as"),
        ("mypkg.parts:Tint", r"Detector\.head: expected a Head part"),
        ("mypkg.parts:wrong", r"must return a Part"),
    ],
)
def test_every_mistake_is_one_sentence(package: Path, name: str, sentence: str) -> None:
    with pytest.raises(PartError, match=sentence) as told:
        compose_model("fcos", head=name, allow=("mypkg", "mypkgs"))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["mypkg.parts:wrong", "mypkg.parts:Squeeze"])
def test_what_is_no_model_is_said(package: Path, name: str) -> None:
    with pytest.raises(PartError, match=r"must return a Part|is no model: expected a function"):
        compose_recipe(name, allow=("mypkg",))


@pytest.mark.parametrize("allow", [3, ("a b",), (1,), None, "my-pkg"])
def test_allow_is_names_of_modules(allow: object) -> None:
    with pytest.raises(PartError, match=r"allow: expected names of modules, as \('mypkg',\), got"):
        compose_model("fcos", allow=allow)  # type: ignore[arg-type]


def test_a_docstring_is_read_without_importing(package: Path) -> None:
    assert first_line("mypkg.parts:Squeeze") == "Every level in one width, by a 1x1 convolution."
    assert first_line("mypkg.nowhere:Squeeze") == ""
    assert source("os.path") is None or "mypkg" not in sys.modules
    assert "mypkg" not in sys.modules


def test_weights_name_the_part_and_the_permission(package: Path, tmp_path: Path) -> None:
    model = compose_model("fcos", neck="mypkg.parts:Squeeze", num_classes=2, overrides=SMALL, allow=("mypkg",))
    path = tmp_path / "m{}.safetensors"
    torso.save(path, model.build(), model)
    with pytest.raises(
        PartError, match=r"m\{\}\.safetensors: 'mypkg\.parts:Squeeze' lies outside.*set allow=\('mypkg',\)"
    ):
        torso.load(path)
    assert torso.load(path, allow=("mypkg",)).neck[0].out_specs[0].channels == 256


def test_the_callers_class_needs_no_permission(package: Path) -> None:
    from mypkg.parts import Squeeze  # type: ignore[import-not-found]

    assert part(Squeeze, channels=8).name == "mypkg.parts:Squeeze"
