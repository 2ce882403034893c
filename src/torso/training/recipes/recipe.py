"""A recipe: the model, how it is trained and for how long, as one record that is compared, stored and overridden."""

from __future__ import annotations

import math
from typing import Literal

from torso.data.sample import Transform
from torso.models.detector import Detector
from torso.parts import Part, PartError, part
from torso.plain_values import Checked
from torso.training.criteria._base import Criterion
from torso.training.criteria.dense import DenseCriterion


class Recipe(Checked):
    """Everything that decides the weights, but the data. A checkpoint holds it as plain data.

    Args:
        model, criterion: what is trained, and towards what.
        augment: applied to each training picture in order; the model's input policy comes last by itself.
        close_mosaic: share of the run, in whole epochs at its end, in which transforms that mix pictures (mosaic,
            MixUp) are left out, so that the last pictures are such as will come (YOLOX, arXiv 2107.08430).
        scales: multi-scale training: each batch is shown at one of these factors of the input policy's size, drawn
            anew for each; on CUDA every one is compiled once. Prediction keeps the policy's own size.
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
        compile: "auto" compiles on CUDA. "graphs" also replays each step as CUDA graphs: small models wait for the host
            no more; it wants one device, accumulate 1 and memory of its own for each size of pictures.
        deterministic: the same bits on CUDA too, slower.
        sync_bn: BatchNorms that learn take their statistics over all devices (frozen ones have theirs).
    """

    def __init__(
        self,
        *,
        model: Part[Detector],
        criterion: Part[Criterion] = part(DenseCriterion),
        augment: tuple[Part[Transform], ...] = (),
        close_mosaic: float = 0.0,
        scales: tuple[float, ...] = (1.0,),
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
        compile: Literal["auto", "yes", "no", "graphs"] = "auto",
        deterministic: bool = False,
        sync_bn: bool = False,
    ) -> None:
        self.model, self.criterion, self.augment, self.scales = model, criterion, augment, scales
        self.close_mosaic = close_mosaic
        self.epochs, self.steps, self.batch_size, self.accumulate = epochs, steps, batch_size, accumulate
        self.optimizer, self.lr, self.lr_batch, self.backbone_lr = optimizer, lr, lr_batch, backbone_lr
        self.momentum, self.weight_decay = momentum, weight_decay
        self.warmup_steps, self.schedule, self.milestones = warmup_steps, schedule, milestones
        self.clip_norm, self.ema, self.pretrained, self.seed = clip_norm, ema, pretrained, seed
        self.precision, self.compile, self.deterministic = precision, compile, deterministic
        self.sync_bn = sync_bn
        self._check_numbers()

    def _check_numbers(self) -> None:
        """PartError for what cannot train, with what came and what is wanted."""
        at_least_one = ("epochs", "steps", "batch_size", "accumulate", "lr_batch")
        positive, not_negative = ("lr", "clip_norm"), ("weight_decay", "warmup_steps", "backbone_lr")
        for name in at_least_one:
            number = getattr(self, name)
            if number is not None and number < 1:
                raise PartError(f"recipe: {name} must be at least 1; {number} came")
        for name in (*positive, *not_negative):
            value = getattr(self, name)
            if value is not None and (value < 0 or (name in positive and value == 0)):
                wanted = "be above 0" if name in positive else "not be below 0"
                raise PartError(f"recipe: {name} must {wanted}; {value} came")
        if self.compile == "graphs" and self.accumulate > 1:
            raise PartError(
                f"recipe: compile graphs and accumulate {self.accumulate} exclude each other: a replayed step writes "
                "its gradients anew instead of adding them; take compile yes or accumulate 1"
            )
        if not 0 <= self.ema < 1 or not 0 <= self.momentum < 1:
            raise PartError(f"recipe: ema and momentum lie in 0..1, below 1; {self.ema} and {self.momentum} came")
        if not 0 <= self.close_mosaic <= 1:
            raise PartError(
                f"recipe: close_mosaic is a share of the run, 0..1 (0.05 is 15 of 300 epochs); {self.close_mosaic} came"
            )
        milestones, scales = self.milestones, self.scales
        if list(milestones) != sorted(set(milestones)) or any(not 0 < m < 1 for m in milestones):
            raise PartError(f"recipe: milestones are rising shares of the steps between 0 and 1; {milestones} came")
        if not scales or any(not 0 < scale < math.inf for scale in scales):
            raise PartError(f"recipe: scales are one or more factors above 0, such as 0.75,1,1.25; {scales} came")
