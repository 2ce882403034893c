"""Any timm model that yields features, its levels known by stride (timm 1.0, https://github.com/huggingface/pytorch-image-models)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from timm.layers import activations
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from torso.backbones._base import Backbone, FrozenNorms, parameters_behind
from torso.backbones._stages import insert_blocks
from torso.blocks._base import Block
from torso.bounds import BelowOne, Whole
from torso.layers.conv import Activation, StemConv2d, fits_stem, make_activation
from torso.parts import Part, nearest
from torso.types import FeatureSpec

# Sigmoids and their like are not among them: they are gates, not activations.
_ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.PReLU, nn.SiLU, nn.Mish, nn.GELU, nn.Hardswish,
    activations.Swish, activations.Mish, activations.HardSwish, activations.HardMish, activations.PReLU,
    activations.GELU, activations.GELUTanh, activations.QuickGELU,
)  # fmt: skip


class Timm(Backbone):
    """A timm model as a backbone.

    Args:
        name: timm's name, e.g. "resnet50", "swin_tiny_patch4_window7_224".
        frozen_stride: everything up to and including the map of this stride keeps its weights (0: nothing); the
            Faster R-CNN and RetinaNet papers freeze the stem and the first stage, frozen_stride=4.
        frozen_norm: BatchNorm uses its stored statistics and learns nothing (detection with small batches).
        checkpointing: recompute activations in the backward pass: less memory, about a third more time.
        activation: in the place of every activation of the model; None keeps timm's, which its weights are made for.
        stage_norms: a LayerNorm on every map, as Swin's authors detect; timm's own bodies end without one.
        drop_path: chance that an image skips the deepest block (stochastic depth); shallower ones are skipped less.
        block: stands behind the stages of some maps, one of its own for each, before the next stage sees the map.
        block_strides: of those maps; none given means the block's own place, from stride 8 on.

    Maps of NHWC models come out as NCHW; of several maps of one stride (ViT) the deepest is kept; models of a fixed
    image size are opened for any size and pad to whole patches. Windows shift in every stage, whatever the size:
    timm leaves that out where the map of a classifier's small image is one window.
    """

    def __init__(
        self,
        *,
        name: str,
        frozen_stride: Whole = 0,
        frozen_norm: bool = False,
        checkpointing: bool = False,
        activation: Literal["relu", "leaky_relu", "silu", "mish", "gelu", "hardswish"] | None = None,
        stage_norms: bool = False,
        drop_path: BelowOne = 0.0,
        block: Part[Block] | None = None,
        block_strides: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.name = name
        self.body = _create(name, **({"drop_path_rate": drop_path} if drop_path else {}))
        self._replaced = () if activation is None else replace_activations(self.body, activation, name)
        _quicken_stem(self.body)
        self._patch_hw = patch_of(self.body)
        info: Any = self.body.feature_info
        self._nhwc = str(getattr(self.body, "output_fmt", "NCHW")).endswith("NHWC")
        deepest = {int(r): i for i, r in enumerate(info.reduction())}  # a later map of the same stride wins
        self._positions = [deepest[stride] for stride in sorted(deepest)]
        channels = info.channels()
        self.out_specs = tuple(FeatureSpec(channels[deepest[s]], (s, s)) for s in sorted(deepest))
        if block is not None:
            self.blocks, self.out_specs = insert_blocks(
                self.body,
                block,
                block_strides,
                specs=self.out_specs,
                nhwc=self._nhwc,
                name=name,
                stages=[info.module_name(i) for i in self._positions],
            )
        self.stage_norms = _StageNorms([s.channels for s in self.out_specs]) if stage_norms else None
        self.multiple = max(32, max(deepest))
        config: Any = self.body.pretrained_cfg
        self.mean, self.std = tuple(config["mean"]), tuple(config["std"])
        if checkpointing:
            _checkpoint(self.body, name)
        self._frozen = FrozenNorms(self._freeze(frozen_stride, frozen_norm))
        self.train(self.training)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        maps = self.body(pad_to(pixels, self._patch_hw))
        if self._nhwc:
            maps = [m.permute(0, 3, 1, 2) for m in maps]
        chosen = [maps[i] for i in self._positions]
        return chosen if self.stage_norms is None else self.stage_norms(chosen)

    def train(self, mode: bool = True) -> Timm:
        super().train(mode)
        if hasattr(self, "_frozen"):
            self._frozen.apply()
        return self

    def published_parameters(self) -> Iterator[nn.Parameter]:
        return self.body.parameters()

    def load_pretrained(self, source: str) -> None:
        """Copy the published ImageNet weights: `source` is "hub" (timm's download) or a local file in timm's keys.

        Raises ValueError where they cannot be had; the weights are then unchanged. Where `activation` replaced one that
        learns, or put one in, a warning names the parameters without a counterpart.
        """
        overlay: dict[str, Any] = {}
        if source != "hub":
            if not Path(source).is_file():
                raise ValueError(f"no weight file at {source!r}; give a file in timm's keys for {self.name}, or 'hub'")
            overlay = {"pretrained_cfg_overlay": {"file": source}}
        try:
            donor = _create(self.name, pretrained=True, **overlay)
        except Exception as error:
            why = str(error).strip().split("\n")[0] or type(error).__name__
            raise ValueError(
                f"pretrained weights of {self.name} could not be loaded from {source!r} ({why}); "
                "give a local file, or train without pretrained weights"
            ) from error
        load_published(self.body, donor.state_dict(), self._replaced, self.name)

    def _freeze(self, stride: int, norms: bool) -> list[nn.Module]:
        """Freeze parameters; return the norms that stay in eval mode."""
        frozen: set[nn.Parameter] = set()
        if stride:
            strides = [s.stride for s in self.out_specs]
            if stride not in strides:
                raise ValueError(f"frozen_stride={stride}: {self.name} has maps of stride {strides}; choose one, or 0")
            was = self.training
            self.eval()
            size = 2 * self.multiple
            frozen = set(parameters_behind(self(torch.zeros(1, 3, size, size))[strides.index(stride)], self.body))
            self.train(was)
        kept = [m for m in self.body.modules() if norms or any(p in frozen for p in m.parameters(recurse=False))]
        if norms:
            batch_norms = [m for m in kept if isinstance(m, nn.modules.batchnorm._BatchNorm)]
            frozen |= {p for m in batch_norms for p in m.parameters()}
        for p in frozen:
            p.requires_grad_(False)
        return kept


def _create(name: str, **kwargs: Any) -> nn.Module:
    """timm's features-only model, opened for any image size where it would insist on one."""
    if not timm.is_model(name.split(".")[0]):
        raise ValueError(f"timm has no model {name!r}; {nearest(name, timm.list_models())}")
    fixed = bool((timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()).fixed_input_size)
    attempts: list[dict[str, Any]] = [{}]
    if fixed:
        windows = {"strict_img_size": False, "always_partition": True}
        attempts = [windows, {"strict_img_size": False}, {"dynamic_img_size": True}, {}]
    for i, extra in enumerate(attempts):
        try:
            body: nn.Module = timm.create_model(name, features_only=True, **{"pretrained": False, **kwargs}, **extra)
            return body
        except (TypeError, AttributeError, RuntimeError) as error:
            if i + 1 < len(attempts) and isinstance(error, TypeError):
                continue  # this architecture has no such argument
            remedy = "set drop_path=0" if "drop_path" in str(error) else "choose another backbone"
            raise ValueError(f"timm's {name} cannot be opened as a backbone of features: {error}; {remedy}") from error
    raise AssertionError("unreachable: the last attempt returns or raises")


def _quicken_stem(body: nn.Module) -> None:
    """Put StemConv2d in the place of a first convolution that it can compute; names and weights stay."""
    for path, module in list(body.named_modules()):
        if fits_stem(module):
            parent, _, name = path.rpartition(".")
            setattr(body.get_submodule(parent), name, StemConv2d.of(module))
            return


def _checkpoint(body: Any, name: str) -> None:
    try:
        body.set_grad_checkpointing(True)
    except (AssertionError, AttributeError, TypeError) as error:
        raise ValueError(f"timm's {name} does not support activation checkpointing; set checkpointing=false") from error


def replace_activations(body: nn.Module, activation: Activation, name: str) -> tuple[str, ...]:
    """Put one activation in the place of every other; weights and their names stay. Returns where they stand.

    Raises ValueError where the body has none as modules.
    """
    found = [path for path, m in body.named_modules() if isinstance(m, _ACTIVATIONS)]
    if not found:
        raise ValueError(f"timm's {name} has no activation modules to replace; leave activation=none")
    for path in found:
        parent, _, child = path.rpartition(".")
        setattr(body.get_submodule(parent), child, make_activation(activation))
    return tuple(found)


def load_published(body: nn.Module, published: Mapping[str, Tensor], replaced: Sequence[str], name: str) -> None:
    """Load the body, strictly but for the activations at the paths `replaced`, which the published weights never met.

    Parameters of theirs that nobody published stay at their start, and published ones (PReLU's slopes) that have no
    place any more are left out; a warning names both. Any other difference is load_state_dict's RuntimeError.
    """
    own = body.state_dict()

    def of_replaced(key: str) -> bool:
        return key.rpartition(".")[0] in replaced

    fresh = [key for key in own if key not in published and of_replaced(key)]
    left = [key for key in published if key not in own and of_replaced(key)]
    kept = {key: value for key, value in published.items() if key not in left}
    body.load_state_dict({**kept, **{key: own[key] for key in fresh}})
    if fresh or left:
        stay = f"parameters that stay at their start: {', '.join(fresh) or 'none'}"
        warnings.warn(
            f"{name} has other activations than its pretrained weights: {stay}; pretrained ones left out: "
            f"{', '.join(left) or 'none'}",
            stacklevel=3,
        )


def patch_of(body: nn.Module) -> tuple[int, int]:
    """(height, width) of the patches that a transformer cuts its image into; (1, 1) where there are none."""
    return next((m.patch_size for m in body.modules() if isinstance(m, PatchEmbed)), (1, 1))


def pad_to(pixels: Tensor, patch_hw: tuple[int, int]) -> Tensor:
    """Zeros at the bottom and right, up to whole patches: [B, C, H, W] -> [B, C, H', W']."""
    bottom, right = (-size % patch for size, patch in zip(pixels.shape[-2:], patch_hw, strict=True))
    return F.pad(pixels, (0, right, 0, bottom)) if bottom or right else pixels


class _StageNorms(nn.Module):
    """A LayerNorm over the channels of every map: list of [B, C_i, h_i, w_i] -> the same shapes."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [n(m.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for n, m in zip(self.norms, maps, strict=True)]
