"""The contract of a prior generator, and the grid that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from torso.plain_values import Checked
from torso.types import Priors

StrideFrom = Literal["feature", "image"]


class PriorGenerator(Checked, nn.Module):
    """Built with the (y, x) strides of the levels, fine to coarse; called with the maps' sizes at every forward.

    Priors are computed anew each time: a cache would break dynamic export and multiply compiled graphs.
    shapes_wh: (w, h) in pixels of the A priors at a location, one list a level. They are kept on the device as float32
    buffers, because a tensor made of Python numbers costs a host-to-device copy in every forward.
    """

    def __init__(self, shapes_wh: Sequence[Sequence[tuple[float, float]]]) -> None:
        super().__init__()
        self._shapes_wh = [list(level) for level in shapes_wh]
        self.per_location = tuple(len(level) for level in shapes_wh)
        for i, level in enumerate(self._shapes_wh):
            self.register_buffer(f"level{i}", torch.tensor(level, dtype=torch.float32), persistent=False)

    @classmethod
    def levels_written(cls, args: Mapping[str, Any]) -> dict[str, int]:
        """{argument: levels} of those of `args` that have a value for each level, so that they fix how many there are.

        None in the place of such a value serves any number.
        """
        return {}

    def shapes(self) -> list[Tensor]:
        """[A, 2] float32 (w, h) of each level, on the module's device."""
        return [getattr(self, f"level{i}") for i in range(len(self._shapes_wh))]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PriorGenerator:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for i, level in enumerate(self._shapes_wh):  # model.half() must not round the anchors
            moved = getattr(self, f"level{i}")
            if moved.dtype != torch.float32:
                setattr(self, f"level{i}", torch.tensor(level, dtype=torch.float32, device=moved.device))
        return self

    def forward(self, sizes_hw: Sequence[tuple[int, int]], image_hw: tuple[int, int]) -> Priors:
        """sizes_hw: (h, w) of each level's map; image_hw: (H, W) of the padded batch. Rows run level, y, x, prior."""
        raise NotImplementedError


def grid_priors(
    shapes_wh: Tensor, size_hw: tuple[int, int], stride_yx: tuple[float, float], offset: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Centres, sizes and strides, each [h*w*A, 2] float32, of A shapes [A, 2] (w, h) at every location of one level.

    The centre of location (x, y) is ((x + offset) * stride_x, (y + offset) * stride_y).
    """
    (h, w), a = size_hw, shapes_wh.shape[0]
    device = shapes_wh.device
    x = (torch.arange(w, device=device, dtype=torch.float32) + offset) * stride_yx[1]
    y = (torch.arange(h, device=device, dtype=torch.float32) + offset) * stride_yx[0]
    centers = torch.stack([x[None, :, None].expand(h, w, a), y[:, None, None].expand(h, w, a)], dim=-1).reshape(-1, 2)
    sizes = shapes_wh.expand(h, w, a, 2).reshape(-1, 2)
    column = centers[:, 0]
    strides = torch.stack([torch.full_like(column, stride_yx[1]), torch.full_like(column, stride_yx[0])], dim=-1)
    return centers, sizes, strides


def place_anchors(
    shapes_wh: Sequence[Tensor],
    sizes_hw: Sequence[tuple[int, int]],
    image_hw: tuple[int, int],
    strides_yx: Sequence[tuple[int, int]] | None,
    offset: float,
) -> Priors:
    """Every shape of a level at each location; strides_yx None takes the image size // map size of each level."""
    levels = []
    for i, (wh, size_hw) in enumerate(zip(shapes_wh, sizes_hw, strict=True)):
        image_stride = (image_hw[0] // size_hw[0], image_hw[1] // size_hw[1])
        levels.append(grid_priors(wh, size_hw, image_stride if strides_yx is None else strides_yx[i], offset))
    centers, sizes, strides = (torch.cat(x) for x in zip(*levels, strict=True))
    places = tuple((h, w, wh.shape[0]) for (h, w), wh in zip(sizes_hw, shapes_wh, strict=True))
    return Priors(centers, sizes, strides, places)


def gather_priors(priors: Priors, rows: Tensor) -> Priors:
    """The priors of rows [B, R]: fields become [B, R, 2]; levels no longer apply and are empty."""

    def pick(field: Tensor) -> Tensor:
        if field.dim() == 2:
            return field[rows]
        return field.gather(1, rows[..., None].expand(-1, -1, 2))

    return Priors(pick(priors.centers_xy), pick(priors.sizes_wh), pick(priors.strides_xy), (), priors.points)


def level_of_rows(priors: Priors) -> Tensor:
    """[N] int64: the level that each row belongs to."""
    device = priors.centers_xy.device
    return torch.cat([torch.full((n,), i, device=device) for i, n in enumerate(priors.level_sizes)])
