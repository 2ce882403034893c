"""Optimisers by name, parameter groups, the learning rate as a pure function of the step, and the guarded step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

OptimizerName = Literal["sgd", "adam", "adamw"]

_FIRST_LR = 1e-3  # share of the learning rate at which the warm-up begins
_COSINE_END = 0.01
_STEP_FACTOR = 0.1


class Schedule(NamedTuple):
    """The factor of the learning rate at a step. No state: a resumed run asks the same function.

    steps: of the whole run; warmup: linear from a thousandth over so many steps, at most the whole run;
    kind: then "cosine" down to 1 %, "step" by 0.1 at each of `milestones` (shares of the steps), or "constant".
    """

    steps: int
    warmup: int = 0
    kind: Literal["cosine", "step", "constant"] = "cosine"
    milestones: tuple[float, ...] = ()

    def __call__(self, step: int) -> float:
        """Factor at `step`, 0 <= step < steps."""
        return self._warm(step) * self._main(step)

    def _warm(self, step: int) -> float:
        warmup = min(self.warmup, self.steps)
        return 1.0 if step >= warmup else _FIRST_LR + (1 - _FIRST_LR) * step / warmup

    def _main(self, step: int) -> float:
        if self.kind == "constant":
            return 1.0
        if self.kind == "step":
            return float(_STEP_FACTOR ** sum(step >= share * self.steps for share in self.milestones))
        warmup = min(self.warmup, self.steps)
        along = min(max(step - warmup, 0) / max(self.steps - warmup - 1, 1), 1.0)
        return _COSINE_END + (1 - _COSINE_END) * (1 + math.cos(math.pi * along)) / 2


def scaled_lr(lr: float, effective_batch: int, lr_batch: int | None) -> float:
    """The linear scaling rule (arXiv 1706.02677): lr is meant for lr_batch images a step; None takes it as it is."""
    return lr if lr_batch is None else lr * effective_batch / lr_batch


def make_optimizer(
    name: OptimizerName,
    model: Any,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    backbone_lr: float = 1.0,
    extra: Iterable[nn.Parameter] = (),
) -> Optimizer:
    """A fused optimiser over the parameters that learn; `extra` are a criterion's own.
    Norms and biases (every parameter of fewer than two dimensions) do not decay; backbone_lr is the factor of the
    learning rate of what the backbone's publisher trained, not of blocks and norms that were added to it. Each group
    keeps its unscheduled rate as "base_lr".
    """
    groups = _groups(model, list(extra), lr, weight_decay, backbone_lr)
    optimizer: Optimizer
    if name == "sgd":
        optimizer = SGD(groups, lr=lr, momentum=momentum, fused=True)
        if momentum:
            _zero_momentum(optimizer)
    elif name == "adam":
        optimizer = Adam(groups, lr=lr, fused=True)
    else:
        optimizer = AdamW(groups, lr=lr, fused=True)
    return optimizer


def set_lr(optimizer: Optimizer, factor: float) -> float:
    """Every group's rate is its base times the factor; returns the largest."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return float(max(group["lr"] for group in optimizer.param_groups))


def prepare_step(optimizer: Optimizer, loss: Tensor, *, clip_norm: float | None, scale: Tensor | None) -> Tensor:
    """Make the next step() clip, unscale, and do nothing at all if loss or gradient is not finite.

    The fused kernels divide gradients by `grad_scale` and leave weights and state alone where `found_inf` is 1: all of
    it on the device, without a pass over the gradients but the norm's. scale: what the loss was multiplied by (fp16).
    Returns [2] on the device: the gradient's norm, and 1 if the step will not happen.
    """
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = gradient_norm(grads)
    if scale is not None:
        norm = norm / scale
    bad = (~(torch.isfinite(norm) & torch.isfinite(loss.detach()))).to(torch.float32)
    divisor = torch.ones_like(norm) if scale is None else scale.to(norm)
    if clip_norm is not None:
        divisor = divisor * (norm / clip_norm).clamp(min=1.0)
    optimizer.grad_scale = torch.nan_to_num(divisor, nan=1.0, posinf=1.0)  # type: ignore[attr-defined]
    optimizer.found_inf = bad  # type: ignore[attr-defined]
    return torch.stack([norm, bad])


def gradient_norm(grads: list[Tensor]) -> Tensor:
    """Euclidean norm of all gradients together, float32, on their device."""
    if not grads:
        raise ValueError("no parameter has a gradient: the loss depends on nothing that learns; unfreeze something")
    norms = torch._foreach_norm(grads, 2.0, dtype=torch.float32)
    norm: Tensor = torch.linalg.vector_norm(torch.stack(list(norms)))
    return norm


def _groups(
    model: Any, extra: list[nn.Parameter], lr: float, weight_decay: float, backbone_lr: float
) -> list[dict[str, object]]:
    backbone = {id(p) for p in model.published_parameters()}
    sorted_in: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in [*model.parameters(), *extra]:
        if p.requires_grad:
            key = (weight_decay if p.ndim > 1 else 0.0, lr * backbone_lr if id(p) in backbone else lr)
            sorted_in.setdefault(key, []).append(p)
    if not sorted_in:
        raise ValueError("no parameter of the model learns; lower frozen_stride or unfreeze a part")
    return [{"params": ps, "weight_decay": d, "lr": rate, "base_lr": rate} for (d, rate), ps in sorted_in.items()]


def _zero_momentum(optimizer: Optimizer) -> None:
    """Torch allocates momentum without writing it when the very first step is skipped; zeros mean the same and hold."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)


_FIRST, _GROWTH, _BACKOFF, _INTERVAL = 2.0**16, 2.0, 0.5, 2000


class LossScale(nn.Module):
    """scale: what the loss is multiplied by; streak: good steps since it last changed."""

    scale: Tensor
    streak: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(_FIRST))
        self.register_buffer("streak", torch.tensor(0, dtype=torch.int32))

    def update(self, skipped: Tensor) -> None:
        """skipped: scalar on the device, 1 where the step overflowed."""
        torch._amp_update_scale_(self.scale, self.streak, skipped, _GROWTH, _BACKOFF, _INTERVAL)
