"""The loop of one's own in the docs runs as it stands and learns."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import torch
from data.builders import CLASSES, write_coco

EXAMPLE = Path(__file__).parents[1] / "docs" / "example_loop.py"


def test_the_example_trains_a_plain_module_and_its_loss_falls(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("example_loop", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    torch.manual_seed(0)
    data = write_coco(tmp_path / "set", 4, size_hw=(64, 96))
    small = {"neck.channels": 16, "head.channels": 16, "head.tower": 1, "input.short": 64, "input.longest": 96}
    model = example.train(str(data), epochs=4, backbone="test_resnet", **small)
    losses = [float(value) for value in re.findall(r"loss ([\d.]+)", capsys.readouterr().out)]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert model.names == CLASSES
    assert not model.training
    found = model.predict(sorted((data / "images").iterdir())[0])
    assert found.names == CLASSES


def test_the_loop_itself_is_twenty_lines():
    body = EXAMPLE.read_text().split("def train")[1].split("if __name__")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 20
