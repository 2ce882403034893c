"""SSD's extra levels: ever smaller maps from narrow-wide pairs of convolutions (Liu et al. 2016, arXiv 1512.02325)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from torso.bounds import Count, Even, Whole
from torso.necks._base import Neck, levels_between
from torso.types import FeatureSpec


class SSDExtra(Neck):
    """The incoming levels of strides `finest` to `coarsest` as they are, and one more for each of `widths`.

    Args:
        widths: channels of the new levels; a 1x1 to half of them comes before each convolution that shrinks the map.
        strides, paddings: of the 3x3 convolutions, one for each width.
        last_kernel: of the last one (SSD512: 4, which takes a 2x2 map to 1x1).
        steps: stride that each new level has in input pixels, from which its priors are placed. None: every
            convolution's own. SSD300's unpadded convolutions leave 3 and 1 places of 300 pixels: 100 and 300.

    The defaults halve the map each time and suit images of any size. The paper's, behind ssd_vgg with coarsest=16:
    SSD300 strides=2,2,1,1 paddings=1,1,0,0 steps=32,64,100,300;
    SSD512 widths=512,256,256,256,256 strides=2,2,2,2,1 paddings=1,1,1,1,1 last_kernel=4 steps=32,64,128,256,512.
    """

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        finest: int = 8,
        coarsest: int = 32,
        widths: tuple[Even, ...] = (512, 256, 256, 256),
        strides: tuple[Count, ...] | None = None,
        paddings: tuple[Whole, ...] | None = None,
        last_kernel: Count = 3,
        steps: tuple[Count, ...] | None = None,
    ) -> None:
        super().__init__()
        strides = strides or (2,) * len(widths)
        paddings = paddings or (1,) * len(widths)
        self._positions = levels_between(in_specs, finest, coarsest, type(self).__name__)
        kept = [in_specs[i] for i in self._positions]
        steps = steps or _steps(kept[-1].stride, strides)
        _check(widths, strides, paddings, steps, kept[-1].stride)
        self.levels = nn.ModuleList()
        channels = kept[-1].channels
        for i, (width, stride, padding) in enumerate(zip(widths, strides, paddings, strict=True)):
            kernel = last_kernel if i == len(widths) - 1 else 3
            self.levels.append(
                nn.Sequential(
                    nn.Conv2d(channels, width // 2, 1),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(width // 2, width, kernel, stride, padding),
                    nn.ReLU(inplace=True),
                )
            )
            channels = width
        self.out_specs = (*kept, *(FeatureSpec(w, (s, s)) for w, s in zip(widths, steps, strict=True)))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.xavier_uniform_(m.weight)
                nn.init.zeros_(m.bias)  # type: ignore[arg-type]  # they all have one

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        out = [features[i] for i in self._positions]
        for i, level in enumerate(self.levels):
            if min(out[-1].shape[-2:]) + 2 * level[2].padding[0] < level[2].kernel_size[0]:  # type: ignore[index]  # a Sequential
                raise ValueError(
                    f"SSDExtra: level {i} of {len(self.levels)} gets a map of {tuple(out[-1].shape[-2:])}, too small "
                    "for its convolution; show larger images, or set fewer widths or larger paddings"
                )
            out.append(level(out[-1]))
        return out


def _steps(stride: int, strides: Sequence[int]) -> tuple[int, ...]:
    steps = []
    for s in strides:
        stride *= s
        steps.append(stride)
    return tuple(steps)


def _check(
    widths: Sequence[int], strides: Sequence[int], paddings: Sequence[int], steps: Sequence[int], before: int
) -> None:
    if not len(widths) == len(strides) == len(paddings) == len(steps):
        raise ValueError(
            f"SSDExtra wants one stride, padding and step for each of its {len(widths)} widths; "
            f"strides={tuple(strides)}, paddings={tuple(paddings)}, steps={tuple(steps)} came"
        )
    if list(steps) != sorted(set(steps)) or (steps and steps[0] <= before):
        raise ValueError(
            f"SSDExtra: the new levels' strides must rise above {before}, that of the last incoming level; "
            f"{tuple(steps)} came: a convolution of stride 1 needs its step said (SSD300: steps=32,64,100,300)"
        )
