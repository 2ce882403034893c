"""Our own backbones start from a local file of their own tensors, alone or within a detector's, or say what differs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import torso
from torso.backbones._stages import Staged
from torso.backbones.extraction import Extraction
from torso.blocks.cbam import CBAM
from torso.compose import compose_model
from torso.parts import Part, arguments, find, named, names, part
from torso.weights import WeightsError, save

SMALL: dict[str, Any] = {"width": 0.125, "depth": 0.1, "filter_scale": 0.125, "channels": 8, "widths": (8, 16, 32)}
CHEAP: dict[str, dict[str, Any]] = {"yolov1": {"head.channels": 8, "head.hidden": 8}, "ssd300": {}}
OWN = [n for n in names("backbones") if isinstance(find(n, "backbones"), type) and n != "timm"]


def small(name: str) -> Part[Any]:
    whole = named(name, "backbones")
    return whole.with_args(**{k: v for k, v in SMALL.items() if k in arguments(whole.target)})


def drawn(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """A state dict of its shapes with other numbers."""
    generator = torch.Generator().manual_seed(seed)
    return {
        k: torch.rand(v.shape, generator=generator) if v.is_floating_point() else torch.full_like(v, 7)
        for k, v in module.state_dict().items()
    }


def same(module: nn.Module, wanted: dict[str, Tensor]) -> bool:
    own = module.state_dict()
    return own.keys() == wanted.keys() and all(torch.equal(own[k], wanted[k]) for k in own)


@pytest.mark.parametrize("name", OWN)
def test_every_one_of_them_takes_its_own_tensors(name: str, tmp_path: Path) -> None:
    body = small(name).build()
    assert isinstance(body, Staged)
    for i, path in enumerate((tmp_path / "own.safetensors", tmp_path / "own.pth")):
        wanted = drawn(body, i)
        save_file(wanted, path) if path.suffix == ".safetensors" else torch.save(wanted, path)
        assert not same(body, wanted)
        body.load_pretrained(str(path))
        assert same(body, wanted)


@pytest.mark.parametrize(("zoo", "name"), [("yolov1", "extraction"), ("ssd300", "ssd_vgg")])
def test_the_backbone_out_of_a_saved_detector(zoo: str, name: str, tmp_path: Path) -> None:
    model = compose_model(zoo, num_classes=2, backbone=small(name), overrides=CHEAP[zoo])
    donor, path = model.build(), tmp_path / "model.safetensors"
    save(path, donor, model, names=("a", "b"))
    made = torso.create(zoo, num_classes=3, backbone=small(name), overrides=CHEAP[zoo], pretrained=str(path))
    assert same(made.backbone, donor.backbone.state_dict())


def test_blocks_of_ones_own_may_be_wanting_in_the_file_but_only_in_whole(tmp_path: Path) -> None:
    plain = small("extraction").build()
    blocked = small("extraction").with_args(block=part(CBAM), block_strides=(32,)).build()
    file = str(tmp_path / "file.safetensors")
    wanted, blocks = drawn(plain, 0), {k: v for k, v in blocked.state_dict().items() if k.startswith("inserted.")}
    save_file(wanted, file)
    kept = copy.deepcopy(blocks)
    blocked.load_pretrained(file)
    assert same(blocked, {**wanted, **kept})
    both = drawn(blocked, 1)
    save_file(both, file)
    blocked.load_pretrained(file)
    assert same(blocked, both)
    with pytest.raises(ValueError, match=r"inserted\.32\.\S+ is not in the model"):
        plain.load_pretrained(file)
    del both[next(iter(blocks))]
    save_file(both, file)
    with pytest.raises(ValueError, match=rf"\({next(iter(blocks))} is missing\)"):
        blocked.load_pretrained(file)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("missing", r"does not fit Extraction .*\(stages\.0\.0\.conv\.weight is missing\)"),
        ("unexpected", r"\(fc\.weight is not in the model\)"),
        ("shape", r"0\.0\.conv\.weight has shape \[16, 3, 7, 7\] for \[8, 3, 7, 7\].* and \d+ more.*width, norm"),
        ("all", r"is missing and \d+ more, a is not in the model, b is not in the model\)"),
        ("text", "cannot be read as a weight file"),
        ("code", "loading it could run code"),
        ("record", "something else than tensors by name"),
        ("gone", "no weight file at"),
    ],
)
def test_another_file_is_refused_and_changes_nothing(case: str, said: str, tmp_path: Path) -> None:
    body, path = Extraction(width=0.125), tmp_path / "file"
    state = drawn(body, 0)
    first = next(iter(state))
    if case in ("missing", "unexpected", "shape", "all"):
        other: dict[str, dict[str, Tensor]] = {
            "missing": {k: v for k, v in state.items() if k != first},
            "unexpected": {**state, "fc.weight": torch.ones(1)},
            "shape": Extraction(width=0.25).state_dict(),
            "all": {"a": torch.ones(1), "b": torch.ones(1)},
        }
        save_file(other[case], path)
    elif case == "text":
        path.write_text("not weights")
    elif case in ("code", "record"):
        torch.save(Path("x") if case == "code" else {"state_dict": state}, path)
    before = copy.deepcopy(body.state_dict())
    with pytest.raises(WeightsError, match=said) as caught:
        body.load_pretrained(str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert same(body, before)


def test_nothing_is_published() -> None:
    with pytest.raises(ValueError, match="Extraction has no published weights to load from 'hub'; give a file"):
        torso.create("yolov1", backbone=small("extraction"), overrides=CHEAP["yolov1"], pretrained="hub")


@pytest.mark.parametrize("start", [b"PK", b"\x80\x02"])
def test_a_file_whose_length_looks_like_another_kind(start: bytes, tmp_path: Path) -> None:
    """A safetensors file begins with the length of its JSON, here the bytes that a file of torch begins with."""
    body, path = Extraction(width=0.125), tmp_path / "file"
    wanted = drawn(body, 0)
    save_file(wanted, path, metadata={"pad": ""})
    lacks = (int.from_bytes(start, "little") - int.from_bytes(path.read_bytes()[:8], "little")) % 2**16
    save_file(wanted, path, metadata={"pad": "x" * lacks})
    assert path.read_bytes()[:2] == start
    body.load_pretrained(str(path))
    assert same(body, wanted)
