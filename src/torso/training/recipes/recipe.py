"""A recipe: the model, how it is trained and for how long, as one record that is compared, stored and overridden."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import MinLen

from torso.bounds import BelowOne, Count, NotNegative, Positive, Probability, Share, Whole
from torso.data.sample import Transform
from torso.errors import mismatch
from torso.models._base import Model, with_class_count
from torso.parts import Part, PartError, part
from torso.plain_values import Checked
from torso.training.criteria._base import Criterion
from torso.training.criteria.dense import DenseCriterion


class Recipe(Checked):
    """Everything that decides the weights, but the data. A checkpoint holds it as plain data.

    Args:
        model, criterion: what is trained, and towards what.
        augment: applied to each training image in order; the model's input policy comes last by itself.
        close_mosaic: share of the run, in whole epochs at its end, in which transforms that mix images (mosaic,
            MixUp) are left out, so that the last images are such as will come (YOLOX, arXiv 2107.08430).
        scales: multi-scale training: each batch is resized to one of these factors of the input policy's size, drawn
            anew for each; on CUDA every one is compiled once. Prediction keeps the policy's own size.
        epochs: passes over the training set; steps, where given, is the number of optimiser steps in its place.
        batch_size: images a device and forward pass; accumulate: such batches an optimiser step.
        optimizer, lr, momentum, weight_decay: lr is for `lr_batch` images a step and scales linearly with the
            effective batch (arXiv 1706.02677); lr_batch None takes it as it is. Norms and biases do not decay.
        backbone_lr: factor of the backbone's learning rate.
        warmup_steps: linear from a thousandth of lr. schedule: then "cosine" to 1 % of lr, "step" by 0.1 at the
            `milestones` (shares of the steps), or "constant".
        clip_norm: of the gradient, None: unclipped.
        ema: decay of the exponential moving average whose weights are evaluated and published (0: none); it ramps up.
        pretrained: backbone weights, "hub" or a file; None starts at random.
        seed: of weights, data and step. precision: of the forward pass; "auto" is bf16 on CUDA, else 32 bits.
        compile: "auto" compiles on CUDA. "graphs" also replays each step as CUDA graphs: small models wait for the host
            no more; it wants one device, accumulate 1 and memory of its own for each size of images.
        deterministic: the same bits on CUDA too, slower.
        sync_bn: BatchNorms that learn take their statistics over all devices (frozen ones have theirs).
    """

    def __init__(
        self,
        *,
        model: Part[Model],
        criterion: Part[Criterion] = part(DenseCriterion),
        augment: tuple[Part[Transform], ...] = (),
        close_mosaic: Probability = 0.0,
        scales: Annotated[tuple[Positive, ...], MinLen(1)] = (1.0,),
        epochs: Count = 12,
        steps: Count | None = None,
        batch_size: Count = 16,
        accumulate: Count = 1,
        optimizer: Literal["sgd", "adam", "adamw"] = "sgd",
        lr: Positive = 0.01,
        lr_batch: Count | None = 16,
        backbone_lr: NotNegative = 1.0,
        momentum: BelowOne = 0.9,
        weight_decay: NotNegative = 1e-4,
        warmup_steps: Whole = 500,
        schedule: Literal["cosine", "step", "constant"] = "step",
        milestones: tuple[Share, ...] = (8 / 12, 11 / 12),
        clip_norm: Positive | None = None,
        ema: BelowOne = 0.0,
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
        self._check_together()

    def _check_together(self) -> None:
        """PartError for arguments that each may have its value, but not together."""
        if self.compile == "graphs" and self.accumulate > 1:
            raise PartError(
                f"Recipe.accumulate: expected 1 with compile='graphs', whose replayed steps write their gradients anew "
                f"instead of adding them, got {self.accumulate}",
                remedies=[{"compile": "yes"}, {"accumulate": 1}],
            )
        if list(self.milestones) != sorted(set(self.milestones)):
            raise mismatch("Recipe.milestones", "rising shares of the steps", self.milestones)


def with_classes(recipe: Part[Recipe], number: int) -> Part[Recipe]:
    """The recipe with its model for so many classes."""
    return recipe.with_args(model=with_class_count(recipe.get("model"), number))
