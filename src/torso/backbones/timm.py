"""Any timm model that yields features, its levels known by stride (timm 1.0, https://github.com/huggingface/pytorch-image-models)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from torso.backbones._adapt import StageNorms, load_published, pad_to, patch_of, replace_activations
from torso.backbones._base import Backbone, FrozenNorms, parameters_behind
from torso.backbones._stages import insert_blocks
from torso.blocks._base import Block
from torso.bounds import BelowOne, Whole
from torso.layers.stem import StemConv2d, fits
from torso.parts import Part, nearest
from torso.types import FeatureSpec


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
        drop_path: chance that a picture skips the deepest block (stochastic depth); shallower ones are skipped less.
        block: stands behind the stages of some maps, one of its own for each, before the next stage sees the map.
        block_strides: of those maps; none given means the block's own place, from stride 8 on.

    Maps of NHWC models come out as NCHW; of several maps of one stride (ViT) the deepest is kept; models of a fixed
    picture size are opened for any size and pad to whole patches. Windows shift in every stage, whatever the size:
    timm leaves that out where the map of a classifier's small picture is one window.
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
        self.stage_norms = StageNorms([s.channels for s in self.out_specs]) if stage_norms else None
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
    """timm's features-only model, opened for any picture size where it would insist on one."""
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
        if fits(module):
            parent, _, name = path.rpartition(".")
            setattr(body.get_submodule(parent), name, StemConv2d.of(module))
            return


def _checkpoint(body: Any, name: str) -> None:
    try:
        body.set_grad_checkpointing(True)
    except (AssertionError, AttributeError, TypeError) as error:
        raise ValueError(f"timm's {name} does not support activation checkpointing; set checkpointing=false") from error
