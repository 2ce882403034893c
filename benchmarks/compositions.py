"""Every backbone by name behind every neck and head: what goes together, and why the rest does not.

    python benchmarks/compositions.py --out docs/compositions.md

No numbers are computed: all of it is built and run on the meta device, where tensors have shapes and no memory, on a
image of 256 x 256 px. Backbones have their full size; necks and heads are as narrow as in the contract tests, whose
helper this is. A combination is tried as `torso show` composes it: the zoo's model with that head (RetinaNet's where
the zoo has none), the other parts swapped. One that is refused is tried again with levels set by hand, and last with
the head's own values for its levels given up.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import itertools
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "contract"))
import composition_cases as cases
from contract_cases import maps

from torso.parts import find, names
from torso.types import Images

SIZE = (256, 256)
AS_IT_IS, LEVELS, VALUES, REFUSED = "x", "o", "v", "-"
HEAD = """# What goes with what

Written by `make compositions`.

A section for all backbones that answer alike, a row a neck, a column a head. `x`: goes together as it is, `torso show
MODEL --backbone NAME --neck NAME`, where MODEL is the zoo's model with that head (RetinaNet's where the zoo has none).
`o`: is refused as it is, because a level that the model asks for is not there, and goes together once levels are set
by hand as the message says (`--neck.finest=8 --head.finest=8` or the like). `v`: the head has values for each of a
fixed number of levels (SSD, YOLOv3 to v5), no levels here are as many, and it goes together once these are given up
for such as serve any number, as the message says (`--head.priors.sizes=none` or the like). `-`: refused, whatever is
set.

"""
RUN = """
All of it was built, and run for its shapes, on the meta device, without numbers: backbones of their full size on 256 x
256 px, necks and heads 16 wide. With numbers, forward and backward with a finite gradient for every parameter, `make
test` runs a covering array (`tests/contract/test_compositions.py`): small members of every backbone class, every block,
neck and head, so that every two of them meet that can.
"""


@functools.cache
def names_of_backbones() -> tuple[str, ...]:
    """All but timm's adapter, which is whatever model it is given, and classes that have sizes of their own names."""
    sized = {find(n, "backbones")().target for n in names("backbones") if inspect.isfunction(find(n, "backbones"))}
    return tuple(n for n in names("backbones") if find(n, "backbones") not in sized)


@functools.cache
def run_neck(specs: cases.Specs, neck: Any) -> cases.Specs:
    """Build and run it on the meta device; what it publishes, held against the maps that it gives."""
    with torch.device("meta"):
        built = neck.build(specs).eval()
        out = built([m.to("meta") for m in maps(specs, SIZE)])
    for m, spec in zip(out, built.out_specs, strict=True):
        wanted = (spec.channels, *(-(-side // stride) for side, stride in zip(SIZE, spec.stride_yx, strict=True)))
        nominal = any(stride & (stride - 1) for stride in spec.stride_yx)  # SSD300's steps of 100 and 300 px
        if tuple(m.shape[1:]) != wanted and not nominal:
            raise AssertionError(f"{neck}: a map of {tuple(m.shape[1:])} where {wanted} is published")
    return tuple(built.out_specs)


@functools.cache
def run_head(specs: cases.Specs, head: Any) -> None:
    with torch.device("meta"), torch.no_grad():
        images = Images(torch.zeros(2, 3, *SIZE), torch.tensor([SIZE, SIZE]).float(), torch.zeros(2, 4))
        head.build(specs).eval()([m.to("meta") for m in maps(specs, SIZE)], images)


def run_backbone(name: str) -> None:
    with torch.device("meta"), torch.no_grad():
        backbone = cases.backbone_of(name).build().eval()
        out = backbone(torch.zeros(1, 3, *SIZE))
    assert [m.shape[1] for m in out] == [s.channels for s in backbone.out_specs]


def verdict(row: cases.Row) -> str:
    """The mark of a combination; what goes together is run."""
    settings = cases.settings_of(row)
    if settings is None:
        return REFUSED
    model, specs = cases.model_of(row, settings), cases.specs_of(row.backbone)
    for neck in model.get("neck"):
        specs = run_neck(specs, neck)
    run_head(specs, model.get("head"))
    return AS_IT_IS if settings == cases.AS_IT_IS else VALUES if settings.values else LEVELS


def table(marks: dict[cases.Row, str]) -> str:
    """A section for every group of backbones that answer alike."""
    _, _, necks, heads = cases.factors()
    groups: dict[tuple[str, ...], list[str]] = {}
    for backbone in names_of_backbones():
        answers = tuple(marks[cases.Row(backbone, "none", n, h)] for n, h in itertools.product(necks, heads))
        groups.setdefault(answers, []).append(backbone)
    text = []
    for members in groups.values():
        strides = sorted({str([s.stride for s in cases.specs_of(b)]) for b in members})
        text += [f"## {', '.join(f'`{b}`' for b in members)}", "", f"Strides {' or '.join(strides)}.", ""]
        text += ["| neck | " + " | ".join(heads) + " |", "|---|" + ":-:|" * len(heads)]
        for neck in necks:
            row = [marks[cases.Row(members[0], "none", neck, head)] for head in heads]
            text.append(f"| `{neck}` | {' | '.join(row)} |")
        text.append("")
    return "\n".join(text)


def reasons(marks: dict[cases.Row, str]) -> str:
    """What the parts say where levels do not help: each message once, with how many combinations it stands for."""
    said = Counter(cases.refusal(row) for row, mark in marks.items() if mark in (VALUES, REFUSED))
    return "\n".join(f"- {number} x: {text}" for text, number in said.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/compositions.md"))
    args = parser.parse_args()
    _, _, necks, heads = cases.factors()
    marks = {}
    for backbone in names_of_backbones():
        run_backbone(backbone)
        for neck, head in itertools.product(necks, heads):
            row = cases.Row(backbone, "none", neck, head)
            marks[row] = verdict(row)
        counts = Counter(mark for row, mark in marks.items() if row.backbone == backbone)
        print(backbone, dict(counts), flush=True)
    total = Counter(marks.values())
    summary = (
        f"{len(names_of_backbones())} backbones, {len(necks)} necks and {len(heads)} heads make {len(marks)} "
        f"combinations: {total[AS_IT_IS]} go together as they are, {total[LEVELS]} once levels are set, "
        f"{total[VALUES]} once the head's values are given up, {total[REFUSED]} are refused.\n"
    )
    why = "## What the rest is told\n\nOf `v` and `-`, before anything is set by hand, the parts say:\n"
    why = f"{why}\n{reasons(marks)}\n"
    args.out.write_text(f"{HEAD}{summary}{RUN}\n{table(marks)}\n{why}")
    print(summary)


if __name__ == "__main__":
    main()
