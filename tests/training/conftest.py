"""Shared by the tests that train on real images."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def backbone_weights(shared_data: Path) -> Path:
    return shared_data / "weights" / "tf_efficientnet_lite0_in1k_timm.safetensors"
