"""The drawing of a neck says what the module does: its nodes, edges and levels; every neck can be drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tools.figures.neck_graph import Graph, neck_graph
from tools.figures.neck_svg import drawn_graph, figures, svg
from torso.necks.fpn import FPN
from torso.necks.matrix import Matrix
from torso.types import FeatureSpec

SPECS = [FeatureSpec(c, (s, s)) for c, s in ((8, 4), (12, 8), (16, 16), (20, 32))]
FIGURES = Path(__file__).parents[2] / "docs" / "figures" / "necks"


def by_name(graph: Graph) -> set[tuple[str, str]]:
    """Edges as ("label@stride", "label@stride")."""
    name = [f"{n.label}@{n.level[0]}" for n in graph.nodes]
    return {(name[a], name[b]) for a, b in graph.edges}


def test_fpn_has_the_papers_nodes_and_edges() -> None:
    graph = neck_graph(FPN(SPECS, channels=8, finest=8, coarsest=64), SPECS)
    assert graph.levels == ((8, 8), (16, 16), (32, 32), (64, 64))
    assert by_name(graph) == {
        ("C3@8", "1×1@8"), ("C4@16", "1×1@16"), ("C5@32", "1×1@32"),
        ("1×1@32", "up@16"), ("1×1@16", "+@16"), ("up@16", "+@16"),
        ("+@16", "up@8"), ("1×1@8", "+@8"), ("up@8", "+@8"),
        ("+@8", "3×3@8"), ("+@16", "3×3@16"), ("1×1@32", "3×3@32"),
        ("3×3@32", "3×3 /2@64"),
        ("3×3@8", "P3@8"), ("3×3@16", "P4@16"), ("3×3@32", "P5@32"), ("3×3 /2@64", "P6@64"),
    }  # fmt: skip
    assert len(graph.nodes) == 3 + 3 + 2 + 2 + 3 + 1 + 4
    assert [n.kind for n in graph.nodes].count("input") == 3  # C2 is not read, so it is not drawn


def test_what_the_module_does_not_do_is_not_drawn() -> None:
    """The graph follows the arguments: without the coarse level there is no stride-2 convolution."""
    labels = [n.label for n in neck_graph(FPN(SPECS, channels=8, finest=8, coarsest=32), SPECS).nodes]
    assert "3×3 /2" not in labels
    assert labels.count("+") == 2


def test_unequal_strides_have_columns_of_their_own() -> None:
    graph = neck_graph(Matrix(SPECS, channels=8, coarsest=16), SPECS)
    assert graph.levels == ((8, 8), (8, 16), (16, 8), (16, 16))
    assert {("3×3@8", "3×3 /1,2@8"), ("3×3@8", "3×3 /2,1@16")} <= by_name(graph)


class Toy(nn.Module):
    """A block on one level, used twice, a sum of three, and a map that nobody reads."""

    out_specs = (FeatureSpec(4, (8, 8)),)

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1))
        self.unread = nn.Conv2d(4, 4, 1)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        once = self.block(features[0])
        twice = self.block(once)
        self.unread(once)
        return [features[0] + (once + twice)[..., :512, :512].relu()]


def test_modules_fold_call_by_call_and_sums_into_one() -> None:
    neck = Toy()
    graph = neck_graph(neck, [FeatureSpec(4, (8, 8))])
    assert [(n.label, n.kind, n.sources) for n in graph.nodes] == [
        ("C3", "input", ()),
        ("2 convs", "module", (0,)),
        ("2 convs", "module", (1,)),
        ("+", "join", (0, 1, 2)),
        ("P3", "output", (3,)),
    ]
    assert next(neck.parameters()).device == torch.device("cpu")  # the caller's module is left as it was
    assert neck.training
    assert not any(m._forward_hooks for m in neck.modules())


@pytest.mark.parametrize("name", figures())
def test_every_neck_can_be_drawn(name: str) -> None:
    graph = drawn_graph(name)
    outputs = [n for n in graph.nodes if n.kind == "output"]
    assert outputs
    assert all(len(n.sources) == 1 and graph.nodes[n.sources[0]].level == n.level for n in outputs)
    assert all((n.kind == "input") == (not n.sources) for n in graph.nodes)
    assert all(a < b for a, b in graph.edges)
    assert {n.level for n in graph.nodes} == set(graph.levels)
    image = svg(graph, name)
    assert len(image) < 40_000
    root = ET.fromstring(image)
    boxes = [r for r in root.iter("{http://www.w3.org/2000/svg}rect") if r.get("class") not in ("bg", "band")]
    assert len(boxes) == len(graph.nodes)
    assert len({(r.get("x"), r.get("y")) for r in boxes}) == len(boxes)  # none hides another
    assert len(root.findall("{http://www.w3.org/2000/svg}path")) == len(graph.edges)


def test_the_figures_of_the_documentation_are_those_of_the_code() -> None:
    stale = [
        n
        for n in figures()
        if not (FIGURES / f"{n}.svg").is_file()
        or (FIGURES / f"{n}.svg").read_text(encoding="utf-8") != svg(drawn_graph(n), n)
    ]
    assert not stale, f"figures of {stale} are old: python -m tools.figures.neck_svg docs/figures/necks"
