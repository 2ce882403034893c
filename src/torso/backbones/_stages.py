"""Blocks inside a backbone: behind the stage that makes a map, before the next stage sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torso.backbones._base import Backbone
from torso.blocks._base import Block, places
from torso.errors import PartError
from torso.parts import Part
from torso.types import FeatureSpec


class Staged(Backbone):
    """A backbone of our own with stages that blocks can stand behind: its constructor ends with `self.insert(...)`.

    The blocks lie in `inserted`, by stride. Without any there is nothing there, and no weight's name differs.
    """

    added = ("inserted.",)

    def insert(
        self,
        block: Part[Block] | None,
        strides: Sequence[int],
        stages: Iterable[nn.Module],
        *,
        widths: Sequence[int] | None = None,
    ) -> None:
        """Put a block of its own behind each chosen stage; None changes nothing.

        To be called last: initialising the body then leaves the blocks at their own start.

        Args:
            block, strides: the constructor's `block` and `block_strides`.
            stages: of each map of out_specs, fine to coarse: the module that makes it, called once in forward.
            widths: channels that the stages give, where every map has further layers of its own behind its stage.

        Raises ValueError, with the remedy, for a stride without a map, and for a block that changes the width which
        the layers behind it were built for.
        """
        if block is None:
            return
        name = type(self).__name__
        given = (
            self.out_specs
            if widths is None
            else tuple(FeatureSpec(width, spec.stride_yx) for width, spec in zip(widths, self.out_specs, strict=True))
        )
        chosen = places(given, block, strides, finest=8, who=f"the backbone {name}", argument="block_strides")
        modules = dict(enumerate(stages))
        self.inserted, specs = _hooked(
            block, {i: modules[i] for i in chosen}, specs=given, nhwc=False, name=name, all_read=widths is not None
        )
        if widths is None:
            self.out_specs = specs


def insert_blocks(
    body: nn.Module,
    block: Part[Block],
    strides: Sequence[int],
    *,
    specs: Sequence[FeatureSpec],
    stages: Sequence[str],
    nhwc: bool,
    name: str,
) -> tuple[nn.ModuleDict, tuple[FeatureSpec, ...]]:
    """Hook a block of its own behind each chosen stage of a timm body; returns them by stride, and the new specs.

    The blocks are no children of the body: its weights keep their names, and what freezes, normalises or loads it
    leaves them alone.

    Args:
        strides: of the maps that get one; none given means the block's own place from stride 8 on.
        specs, stages: of each map, fine to coarse: what it is, and timm's name of the module that makes it.
        nhwc: the body's maps are channels-last in shape; the block still sees [B, C, h, w].

    Raises ValueError, with the remedy, for a stride without a map, a body without stages of its own, and a block that
    changes the width that the next stage was built for.
    """
    chosen = places(specs, block, strides, finest=8, who=f"the backbone {name}", argument="block_strides")
    modules = {i: _stage(body, stages[i], name) for i in chosen}
    blocks, out = _hooked(block, modules, specs=specs, nhwc=nhwc, name=name)
    blocks.eval()
    _check_reached(body, tuple(modules.values()), name)
    return blocks.train(), out


def _hooked(
    block: Part[Block],
    stages: Mapping[int, nn.Module],
    *,
    specs: Sequence[FeatureSpec],
    nhwc: bool,
    name: str,
    all_read: bool = False,
) -> tuple[nn.ModuleDict, tuple[FeatureSpec, ...]]:
    """A block behind each of these stages, by their places in specs; all_read: layers follow the coarsest too."""
    blocks, out = nn.ModuleDict(), list(specs)
    for i, stage in stages.items():
        channels, stride = specs[i].channels, specs[i].stride
        made = block.build(channels)
        if made.out_channels != channels and (all_read or i + 1 < len(specs)):
            elsewhere = "" if all_read else f"choose block_strides={specs[-1].stride}, "
            raise ValueError(
                f"{type(made).__name__} at stride {stride} of {name} makes {made.out_channels} channels of {channels}, "
                f"and the next stage wants {channels}: set its channels to none, {elsewhere}"
                "or put it behind the backbone as a neck"
            )
        stage.register_forward_hook(_Behind(made, nhwc))
        blocks[str(stride)] = made
        out[i] = FeatureSpec(made.out_channels, specs[i].stride_yx)
    return blocks, tuple(out)


class _Behind:
    """A forward hook: the stage's map goes through the block. A copy of the model copies it along with its block."""

    def __init__(self, block: Block, nhwc: bool) -> None:
        self.block, self.nhwc = block, nhwc

    def __call__(self, stage: nn.Module, inputs: tuple[Tensor, ...], x: Tensor) -> Tensor:
        if not self.nhwc:
            return self.block(x)  # type: ignore[no-any-return]
        return self.block(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()  # type: ignore[no-any-return]


def _stage(body: nn.Module, path: str, name: str) -> nn.Module:
    """The module of a feature; timm's list of features flattens the dots of its name."""
    modules: dict[str, nn.Module] = dict(body.named_modules())
    for candidate in (path, path.replace(".", "_")):
        if candidate in modules:
            return modules[candidate]
    raise _no_place(f"{name} has no stages that a block can stand behind")


def _check_reached(body: nn.Module, stages: Sequence[nn.Module], name: str) -> None:
    """Run the body once on nothing: what each stage answers, its block behind it, must be one of the body's maps."""
    answers: list[Tensor] = []
    handles = [stage.register_forward_hook(lambda module, args, y: answers.append(y)) for stage in stages]
    modes = [(module, module.training) for module in body.modules()]
    body.eval()
    weight = next(body.parameters())
    config: Any = getattr(body, "pretrained_cfg", None) or {}
    size_hw = tuple(config["input_size"])[1:] if config.get("fixed_input_size") else (64, 64)
    try:
        with torch.no_grad():
            maps = body(torch.zeros(1, 3, *size_hw, device=weight.device, dtype=weight.dtype))
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise _no_place(f"a block does not fit between the stages of {name} ({error})") from error
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    if len(answers) != len(stages) or not all(any(answer is m for m in maps) for answer in answers):
        raise _no_place(f"{name} passes no maps from stage to stage that a block could change")


def _no_place(why: str) -> PartError:
    behind = "put the block behind the backbone, in front of the neck: at_levels, which 'cbam+fpn' as the neck means"
    return PartError(why, remedies=[behind, "choose another backbone"])
