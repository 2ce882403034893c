"""A recipe: the model, how it is trained and for how long, as one record that is compared, stored and overridden."""

from __future__ import annotations

from typing import Literal

from torso.data.sample import Transform
from torso.models.detector import Detector
from torso.parts import Part, PartError, part
from torso.training.criteria._base import Criterion
from torso.training.criteria.dense import Dense


class Recipe:
    """Everything that decides the weights, but the data. A checkpoint holds it as plain data.

    Args:
        model, criterion: what is trained, and towards what.
        augment: applied to each training picture in order; the model's input policy comes last by itself.
        epochs: passes over the training set; steps, where given, is the number of optimiser steps in its place.
        batch_size: pictures a device and forward pass; accumulate: such batches an optimiser step.
        optimizer, lr, momentum, weight_decay: lr is for `lr_batch` pictures a step and scales linearly with the
            effective batch (arXiv 1706.02677); lr_batch None takes it as it is. Norms and biases do not decay.
        backbone_lr: factor of the backbone's learning rate.
        warmup_steps: linear from a thousandth of lr. schedule: then "cosine" to 1 % of lr, "step" by 0.1 at the
            `milestones` (shares of the steps), or "constant".
        clip_norm: of the gradient, None: unclipped.
        ema: decay of the exponential moving average whose weights are evaluated and published (0: none); it ramps up.
        pretrained: backbone weights, "hub" or a file; None starts at random.
        seed: of weights, data and step. precision: of the forward pass; "auto" is bf16 on CUDA, else 32 bits.
        compile: "auto" compiles on CUDA. deterministic: the same bits on CUDA too, slower.
    """

    def __init__(
        self,
        *,
        model: Part[Detector],
        criterion: Part[Criterion] = part(Dense),
        augment: tuple[Part[Transform], ...] = (),
        epochs: int = 12,
        steps: int | None = None,
        batch_size: int = 16,
        accumulate: int = 1,
        optimizer: Literal["sgd", "adam", "adamw"] = "sgd",
        lr: float = 0.01,
        lr_batch: int | None = 16,
        backbone_lr: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        warmup_steps: int = 500,
        schedule: Literal["cosine", "step", "constant"] = "step",
        milestones: tuple[float, ...] = (8 / 12, 11 / 12),
        clip_norm: float | None = None,
        ema: float = 0.0,
        pretrained: str | None = None,
        seed: int = 0,
        precision: Literal["auto", "32", "bf16", "16"] = "auto",
        compile: Literal["auto", "yes", "no"] = "auto",
        deterministic: bool = False,
    ) -> None:
        for name, value, least in (("epochs", epochs, 1), ("batch_size", batch_size, 1), ("accumulate", accumulate, 1)):
            if value < least:
                raise PartError(f"recipe: {name} must be at least {least}; {value} came")
        if lr <= 0 or not 0 <= ema < 1:
            raise PartError(f"recipe: lr must be positive and ema in 0..1; lr={lr}, ema={ema} came")
        self.model, self.criterion, self.augment = model, criterion, augment
        self.epochs, self.steps, self.batch_size, self.accumulate = epochs, steps, batch_size, accumulate
        self.optimizer, self.lr, self.lr_batch, self.backbone_lr = optimizer, lr, lr_batch, backbone_lr
        self.momentum, self.weight_decay = momentum, weight_decay
        self.warmup_steps, self.schedule, self.milestones = warmup_steps, schedule, milestones
        self.clip_norm, self.ema, self.pretrained, self.seed = clip_norm, ema, pretrained, seed
        self.precision, self.compile, self.deterministic = precision, compile, deterministic
