"""Which parameters the loss depends on; the others are frozen, or several ranks would wait for their gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torso.engine.step import MicroBatch, TrainStep, kept_buffers


def freeze_unused(step: TrainStep, blank: MicroBatch) -> list[str]:
    """Take requires_grad from parameters that no loss term depends on (a last stage that no level comes from).

    They would never get a gradient anyway; DDP would have to look for them, with a synchronisation, at every step.
    blank: a small batch without content (Task.blank), of which one forward pass is made; random state and buffers stay
    as they are. Returns their names.
    """
    own = {id(p) for p in step.parameters() if p.requires_grad}
    device = next(step.parameters()).device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), kept_buffers(step):
        terms = step(*blank)
        reached = _leaves([term.total for term in terms.values()])
    unreached = [(n, p) for n, p in step.named_parameters() if id(p) in own - reached]
    for _, p in unreached:
        p.requires_grad_(False)
    return [n for n, _ in unreached]


def _leaves(outputs: list[Tensor]) -> set[int]:
    """ids of the parameters that the graph of these outputs ends in."""
    waiting = [o.grad_fn for o in outputs if o.grad_fn is not None]
    seen: set[object] = set(waiting)
    found: set[int] = set()
    while waiting:
        node = waiting.pop()
        variable = getattr(node, "variable", None)
        if isinstance(variable, nn.Parameter):
            found.add(id(variable))
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return found
