"""Shared fixtures: real data beside the project, skipped with a reason when it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # tests run side by side; one thread each is faster and repeatable


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the development data sets (TORSO_DATA, or ../shared/data beside the repository)."""
    root = Path(os.environ.get("TORSO_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"development data not found at {root}; set TORSO_DATA to run this test")
    return root
