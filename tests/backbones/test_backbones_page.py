"""docs/backbones.md is true: every name has its row, and the rows' numbers are those of the modules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from torso.compose import built_on_meta
from torso.parts import find, named, names

PAGE = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| (\d+) to (\d+) \| ([\d, a-z]+) \|", PAGE, flags=re.MULTILINE)
CLASSES = {n for n in names("backbones") if isinstance(find(n, "backbones"), type)}


@pytest.mark.parametrize("row", ROWS, ids=[r[0] for r in ROWS])
def test_the_table_is_true(row: tuple[str, ...]) -> None:
    name, millions, billions, finest, coarsest, channels = row
    backbone = built_on_meta(named(name, "backbones")).eval()
    specs = backbone.out_specs
    assert (specs[0].stride, specs[-1].stride) == (int(finest), int(coarsest))
    widths = [s.channels for s in specs]
    wanted = [int(c) for c in re.findall(r"\d+", channels)]
    assert widths == (wanted * len(specs) if channels.endswith("each") else wanted)
    assert sum(p.numel() for p in backbone.parameters()) / 1e6 == pytest.approx(float(millions), abs=0.0051)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone(torch.zeros(1, 3, 640, 640, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(float(billions), abs=0.0051)


def test_every_name_stands_in_it() -> None:
    assert set(names("backbones")) - {r[0] for r in ROWS} <= CLASSES
    assert CLASSES - {r[0] for r in ROWS} <= {"timm", "csp", "spinenet"}  # shown by their sizes
