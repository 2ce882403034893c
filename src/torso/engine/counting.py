"""What a window's losses are divided by, told from its targets before any forward pass, where they alone decide it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from torso.engine.step import TrainStep
from torso.layers.compiling import compiled
from torso.types import Images

Sizes = tuple[tuple[int, int], ...]


class Counting:
    """Images, targets -> [T] counts of the step's terms. Priors follow from the images' size, so all that has to be
    known of the network is how large its maps are; where the criterion asks for that, it is found once for each size.

    compile: as the step is compiled.
    """

    def __init__(self, step: TrainStep, *, compile: bool = False) -> None:
        self.model = step.model
        self._count: Callable[[Images, Any, Sizes], Tensor] = compiled(step.counts) if compile else step.counts
        self._wants_sizes = step.criterion.counts_need_sizes
        self._sizes: dict[tuple[int, int], Sizes] = {}

    def __call__(self, images: Images, targets: Any) -> Tensor:
        if not self._wants_sizes:
            return self._count(images, targets, ())
        height, width = images.pixels.shape[-2:]
        if (height, width) not in self._sizes:
            self._sizes[height, width] = map_sizes(self.model, (height, width))
        return self._count(images, targets, self._sizes[height, width])


@torch.no_grad()
def map_sizes(model: nn.Module, image_hw: tuple[int, int]) -> Sizes:
    """(h, w) of each level of predictions that have priors: a forward pass of shapes, without memory or arithmetic.

    Strides do not tell: who rounds up and who rounds down is the parts' own affair. The model is left as it is.
    """
    state = {name: torch.empty_like(value, device="meta") for name, value in model.state_dict(keep_vars=True).items()}
    state |= {name: torch.empty_like(value, device="meta") for name, value in model.named_buffers()}
    images = Images(
        torch.empty(1, 3, *image_hw, device="meta"), torch.empty(1, 2, device="meta"), torch.empty(1, 4, device="meta")
    )
    with _at_rest(model):
        raw = functional_call(model, state, (images,))
    return tuple((h, w) for h, w, _ in raw.priors.levels)


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """No module trains inside the block: norms that talk to other ranks would look for their devices."""
    training = [m for m in model.modules() if m.training]
    for m in training:
        m.training = False
    try:
        yield
    finally:
        for m in training:
            m.training = True
