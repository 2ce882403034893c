"""The network at speed: lower precision, memory layout, compilation and CUDA graphs around one `detect`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor, nn

from torso.inputs._base import Input
from torso.layers.compiling import compiled
from torso.plain_values import checked
from torso.suppression._base import Suppression
from torso.types import Candidates, Images

Precision = Literal["auto", "32", "bf16", "16"]


class Detecting(Protocol):
    """What prediction asks of a model, an nn.Module such as Detector.

    names: its classes; multiple: what sides of a batch must be multiples of; input: the sizes at which it sees
    images; mean: a buffer, on the model's device. detect: candidates after suppression, and after the head's third
    stage where has_third_stage says that there is one; candidates: those before suppression.
    """

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def multiple(self) -> int: ...
    @property
    def input(self) -> Input: ...
    @property
    def suppression(self) -> Suppression: ...
    @property
    def mean(self) -> Tensor: ...
    @property
    def has_third_stage(self) -> bool: ...
    def detect(self, images: Images) -> Candidates: ...
    def candidates(self, images: Images) -> Candidates: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def eval(self) -> Self: ...
    def requires_grad_(self, requires_grad: bool = True) -> Self: ...
    def to(self, *args: Any, **kwargs: Any) -> Self: ...


class Runtime:
    """Images -> Candidates of a frozen copy of the model, in eval mode, without gradients.

    Args:
        model: is copied; the original is not changed and later changes of it are not seen.
        precision: "bf16" and "16" (float16) cast the weights of convolutions and linear layers once (autocast would
            cast them at every call, which costs more than it saves on small batches); norms, decoding and suppression
            stay float32. "auto" is bf16 on CUDA, 32 elsewhere.
        compile: one compiled graph an image size and batch size; worth its minute where many batches follow.
        graphs: on CUDA, replay everything from pixels to candidates as one recorded graph, a graph a shape: a small
            batch is bound by launches otherwise. Results are copied out, so they stay valid.
        suppress: False ends at the candidates before suppression, where several views are to be suppressed together.
    """

    @checked
    def __init__(
        self,
        model: Detecting,
        *,
        precision: Precision = "auto",
        compile: bool = False,
        graphs: bool = False,
        suppress: bool = True,
    ) -> None:
        device = next(model.parameters()).device
        self.device = device
        if graphs and device.type != "cuda":
            raise ValueError(f"graphs=True replays CUDA graphs, but the model is on {device}; move it to CUDA first")
        lower = "bf16" if precision == "auto" and device.type == "cuda" else precision
        dtype = {"bf16": torch.bfloat16, "16": torch.float16}.get(lower)
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        if device.type == "cuda":
            self.model.to(memory_format=torch.channels_last)
        if dtype is not None:
            cast_weights(self.model, dtype)
        function = self.model.detect if suppress else self.model.candidates
        self._detect: Callable[[Images], Candidates] = compiled(function) if compile else function
        self._graphs: dict[tuple[int, ...], _Recorded] | None = {} if graphs else None

    @torch.no_grad()
    def __call__(self, images: Images) -> Candidates:
        images = Images(*(x.to(self.device, non_blocking=True) for x in images))
        if self._graphs is None:
            return self._detect(images)
        shape = (*images.pixels.shape, images.pixels.dtype.itemsize)
        if shape not in self._graphs:
            self._graphs[shape] = _Recorded(self._detect, images)
        return self._graphs[shape](images)


class _Recorded:
    """One CUDA graph of `function` for one shape; inputs are copied in and results out."""

    def __init__(self, function: Callable[[Images], Candidates], example: Images) -> None:
        self.inputs = Images(*(x.clone() for x in example))
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # warm-up off the recording: compilation, library handles, autotuning
            for _ in range(3):
                function(self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.outputs = function(self.inputs)

    def __call__(self, images: Images) -> Candidates:
        for mine, theirs in zip(self.inputs, images, strict=True):
            mine.copy_(theirs)
        self.graph.replay()
        return self.outputs.map(torch.clone)


def cast_weights(model: Detecting | nn.Module, dtype: torch.dtype) -> None:
    """Cast everything but BatchNorm, whose running statistics need float32, and the detector's own pixel statistics."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            continue
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.to(dtype)
