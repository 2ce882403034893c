"""Run the Triton kernels in Triton's interpreter, on the CPU, and write what they answer to the file given.

A process of its own, because TRITON_INTERPRET=1 must be set before the kernels are imported and changes Triton for
good: `TRITON_INTERPRET=1 python -m suppression.interpreted OUT.pt` in tests/.
"""

from __future__ import annotations

import sys

import torch

from torso.kernels.fuse_triton import cluster_triton
from torso.kernels.keep_triton import keep_triton
from torso.kernels.pick_triton import pick_triton
from torso.kernels.rule import Decay, Rule
from torso.suppression._base import rank, scored

from .cases import cases

RULES = (
    Rule("iou", 0.5, False),
    Rule("iou", 0.5, True),
    Rule("diou", 0.3, False),
    Rule("diou", 0.3, False, 0.6),
    Rule("giou", -0.1, False),
)
DECAYS = (Decay("linear", 0.5, 1e-3), Decay("gaussian", 0.5, 1e-3))


def main(out: str) -> None:
    """The answers by (operation, case, rule or decay, per class or not)."""
    answers = {}
    for name, candidates in cases().items():
        ranked, rows = rank(candidates), scored(candidates, 0.0)
        for rule in RULES if name == "random, three classes" else RULES[:1]:
            answers["keep", name, rule] = keep_triton(ranked.boxes, ranked.scores > 0, ranked.labels, rule, 25)
        if "random" not in name:
            answers["keep all", name] = keep_triton(
                ranked.boxes, ranked.scores > 0, None, RULES[0], len(ranked.scores[0])
            )
        boxes, rule = ranked.boxes.contiguous(), Rule("iou", 0.55, False)
        answers["fuse", name, rule] = cluster_triton(boxes, ranked.scores.contiguous(), ranked.labels, rule)
        for decay in DECAYS:
            boxes = rows.boxes.contiguous()
            arguments = (boxes, rows.scores, rows.labels, Rule("iou", 0.3, True), decay, 20)
            answers["pick", name, decay] = pick_triton(*arguments)
    torch.save(answers, out)


if __name__ == "__main__":
    main(sys.argv[1])
