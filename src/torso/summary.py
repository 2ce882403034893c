"""What a detector is made of, counted without allocating it: maps, output shapes, parameters and FLOPs a part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from torso.inputs.tiles import Tiles
from torso.models.detector import Detector
from torso.parts import Part
from torso.types import Images

_REFERENCE_HW = (800, 1333)  # the image whose padded size is shown where the input policy fixes none


@dataclass(frozen=True)
class Level:
    """One map: channels, stride (y, x) in input pixels, (height, width) at the size of the summary.

    read: whether the part behind looks at it.
    """

    channels: int
    stride_yx: tuple[int, int]
    size_hw: tuple[int, int]
    read: bool


@dataclass(frozen=True)
class Stage:
    """One part: its name, its parameters (all, and those that learn), FLOPs of one image, and the maps it gives."""

    stage: str
    part: str
    parameters: int
    learnable: int
    flops: int
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Summary:
    """A model at one input size. flops: 2 x multiply-adds of one image, forward pass up to the raw predictions.

    tile_hw: of tiled inputs the (height, width) of a tile, px of the image; input_hw and flops are then a tile's.
    """

    input_hw: tuple[int, int]
    stages: tuple[Stage, ...]
    outputs: Mapping[str, tuple[int, ...]]
    num_classes: int
    tile_hw: tuple[int, int] | None = None

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        return sum(s.parameters for s in self.stages)

    @property
    def learnable(self) -> int:
        """Those that learn."""
        return sum(s.learnable for s in self.stages)

    @property
    def flops(self) -> int:
        """Of the whole model, one image or tile."""
        return sum(s.flops for s in self.stages)

    @property
    def unit(self) -> str:
        """What is counted: a "image", or a "tile" of it."""
        return "image" if self.tile_hw is None else "tile"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        totals = {"parameters": self.parameters, "learnable": self.learnable, "flops": self.flops}
        return {**asdict(self), **totals, "flops_unit": f"2 x multiply-adds, one {self.unit}"}


def summarise(model: Part[Detector], size_hw: tuple[int, int] | None = None) -> Summary:
    """Build the model on the meta device, where tensors have shapes and no memory, and count one forward pass.

    size_hw: of the input; None takes the model's own policy (of an image of 800 x 1333 where it fixes no size, of
    a tile where it cuts images into tiles).
    ValueError where the model's multiple does not divide size_hw (it names the nearest size), or its parts do not fit
    together.
    """
    with torch.device("meta"):
        built = model.build().eval()
    tile = built.input.size_hw if isinstance(built.input, Tiles) else None
    size = size_hw or built.input.padded([built.input.resized(tile or _REFERENCE_HW)], built.multiple)
    fitting = tuple(max(round(side / built.multiple), 1) * built.multiple for side in size)
    if size != fitting:
        raise ValueError(
            f"an input of {size[0]}x{size[1]} (height x width) came; this model wants multiples of {built.multiple}: "
            f"the nearest is {fitting[0]}x{fitting[1]}"
        )
    return replace(_count(model, built, size), tile_hw=tile)


def summarise_whole(model: Part[Any], size_hw: tuple[int, int] | None = None) -> Summary:
    """The same of a model that is no detector: one stage, counted as a whole, without maps."""
    with torch.device("meta"):
        built = model.build().eval()
    size = size_hw or built.input.padded([built.input.resized(_REFERENCE_HW)], built.multiple)
    parameters = list(built.parameters())
    learnable = sum(p.numel() for p in parameters if p.requires_grad)
    built.requires_grad_(False)  # as in _count
    with torch.no_grad(), torch.device("meta"):
        images = Images(torch.zeros(1, 3, *size), torch.tensor([size], dtype=torch.float32), torch.zeros(1, 4))
        raw, flops = _counted(built, images)
    stage = Stage("model", _words(model), sum(p.numel() for p in parameters), learnable, flops, ())
    return Summary(size, (stage,), dict(_shapes(raw)), built.num_classes)


def _count(model: Part[Detector], built: Detector, size: tuple[int, int]) -> Summary:
    learning = {id(p) for p in built.parameters() if p.requires_grad}
    # FlopCounterMode looks for the gradient of what goes into a module, and under no_grad a parameter's view has none
    built.requires_grad_(False)
    with torch.no_grad(), torch.device("meta"):
        images = Images(torch.zeros(1, 3, *size), torch.tensor([size], dtype=torch.float32), torch.zeros(1, 4))
        pixels = built.normalise(images)
        chain: list[tuple[str, Any, Part[Any]]] = [("backbone", built.backbone, model.get("backbone"))]
        for i, neck in enumerate(built.neck):
            chain.append(("neck" if len(built.neck) == 1 else f"neck.{i}", neck, _neck(model, i)))
        maps: Any = pixels
        counted = []
        for stage, module, part in chain:
            out, flops = _counted(module, maps)
            maps = _Seen(out)
            counted.append((stage, module, flops, part, maps))
        raw, flops = _counted(built.head, maps, images)
        stages = [_stage(*each, learning) for each in counted]  # only now is known who read what
        stages.append(_stage("head", built.head, flops, model.get("head"), _Seen(), learning))
    return Summary(size, tuple(stages), dict(_shapes(raw)), built.head.num_classes)


class _Seen(list[Tensor]):
    """Maps that remember, by position, which of them were taken out."""

    def __init__(self, maps: Sequence[Tensor] = ()) -> None:
        super().__init__(maps)
        self.positions: set[int] = set()

    def __getitem__(self, key: Any) -> Any:
        taken = range(len(self))[key]
        self.positions.update([taken] if isinstance(taken, int) else taken)
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))


def _counted(module: nn.Module, *inputs: Any) -> tuple[Any, int]:
    with FlopCounterMode(display=False) as counter:
        out = module(*inputs)
    return out, int(counter.get_total_flops())


def _neck(model: Part[Detector], position: int) -> Part[Any]:
    necks = model.get("neck")
    chosen: Part[Any] = necks if isinstance(necks, Part) else necks[position]
    return chosen


def _stage(stage: str, module: Any, flops: int, part: Part[Any], maps: _Seen, learning: set[int]) -> Stage:
    parameters = list(module.parameters())
    read = set(maps.positions)
    levels = [
        Level(s.channels, s.stride_yx, _size(m), i in read)
        for i, (s, m) in enumerate(zip(module.out_specs if maps else (), maps, strict=True))
    ]
    return Stage(
        stage=stage,
        part=_words(part),
        parameters=sum(p.numel() for p in parameters),
        learnable=sum(p.numel() for p in parameters if id(p) in learning),
        flops=flops,
        levels=tuple(levels),
    )


def _words(part: Part[Any]) -> str:
    return f"{part.target.__name__}({', '.join(f'{k}={v!r}' for k, v in part.args)})"


def _size(m: Tensor) -> tuple[int, int]:
    return int(m.shape[-2]), int(m.shape[-1])


def _shapes(raw: Any, prefix: str = "") -> list[tuple[str, tuple[int, ...]]]:
    """(field, shape) of every tensor of a family's raw predictions, those inside priors and proposals too."""
    found: list[tuple[str, tuple[int, ...]]] = []
    for name, value in raw._asdict().items():
        if isinstance(value, Tensor):
            found.append((prefix + name, tuple(value.shape)))
        elif hasattr(value, "_asdict"):
            found += _shapes(value, f"{prefix}{name}.")
    return found
