"""Which parameters the loss depends on; the others are frozen, or several ranks would wait for their gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torso.data.targets import Targets
from torso.engine.step import TrainStep, kept_buffers
from torso.types import Images


def freeze_unreached(step: TrainStep) -> list[str]:
    """Take requires_grad from parameters that no loss term depends on (a last stage that no level comes from).

    They would never get a gradient anyway; DDP would have to look for them, with a synchronisation, at every step.
    Returns their names. One forward pass of two small blank pictures; random state and buffers stay as they are.
    """
    own = {id(p) for p in step.parameters() if p.requires_grad}
    device = step.model.mean.device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), kept_buffers(step):
        terms = step(*_blank(_side(step), device))
        reached = _leaves([term.total for term in terms.values()])
    unreached = [(n, p) for n, p in step.named_parameters() if id(p) in own - reached]
    for _, p in unreached:
        p.requires_grad_(False)
    return [n for n, _ in unreached]


def _side(step: TrainStep) -> int:
    """px: two of the model's multiples, and at least a place of its coarsest map, which SSD's convolutions want."""
    multiple = step.model.multiple
    _, specs = step.model.specs[-1]
    coarsest: int = max(max(s.stride_yx) for s in specs)
    return max(2 * multiple, -(-coarsest // multiple) * multiple)


def _blank(side: int, device: torch.device) -> tuple[Images, Targets]:
    images = Images(
        torch.zeros(2, 3, side, side, dtype=torch.uint8, device=device),
        torch.full((2, 2), float(side), device=device),
        torch.tensor([[1.0, 1.0, 0.0, 0.0]] * 2, device=device),
    )
    none = torch.zeros(2, 32, dtype=torch.bool, device=device)
    return images, Targets(torch.zeros(2, 32, 4, device=device), none.long(), none, none)


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
