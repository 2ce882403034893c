"""docs/necks.md is true: every neck has its figure, and the table's counts are those of the modules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from neck_cases import count
from torch.utils.flop_counter import FlopCounterMode

from torso.parts import Part, find, named, names
from torso.types import FeatureSpec

PAGE = (Path(__file__).parents[2] / "docs" / "necks.md").read_text(encoding="utf-8")
R50 = [FeatureSpec(c, (s, s)) for c, s in ((512, 8), (1024, 16), (2048, 32))]
COUNTS = PAGE[: PAGE.index("## none")]
ROWS = re.findall(r"^\| (`[^|]+) \| ([\d.]+) \| ([\d.]+) \|", COUNTS, flags=re.MULTILINE)


def chain(text: str) -> list[Part[torch.nn.Module]]:
    """The necks of a row: "`fpn` + `asff`", or "`pan`, form=concat" with arguments."""
    necks = [named(name, "necks") for name in re.findall(r"`(\w+)`", text) if name != "none"]
    for argument, value in re.findall(r"(\w+)=([\w,]+)", text):
        necks = [necks[0].override(argument, value)]
    return necks


@pytest.mark.parametrize(("text", "millions", "billions"), ROWS, ids=[r[0] for r in ROWS])
def test_the_table_is_true(text: str, millions: str, billions: str) -> None:
    specs, modules = R50, []
    with torch.device("meta"):
        for p in chain(text):
            modules.append(p.build(specs).eval())
            specs = modules[-1].out_specs
        x = [torch.empty(1, s.channels, 640 // s.stride, 640 // s.stride) for s in R50]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            for module in modules:
                x = module(x)
    assert sum(map(count, modules)) / 1e6 == pytest.approx(float(millions), abs=0.0051)
    assert counter.get_total_flops() / 2e9 == pytest.approx(float(billions), abs=0.0051)


def test_every_neck_stands_in_it_with_its_figure() -> None:
    classes = {n for n in names("necks") if isinstance(find(n, "necks"), type)}
    shown = set(re.findall(r"\(figures/necks/(\w+)\.svg\)", PAGE))
    assert classes <= shown
    assert len(ROWS) >= 14
