"""Images in, Detections out: reads, batches by shape, runs the model and maps boxes back to original pixels."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from torso.bounds import Count, Probability
from torso.geometry.resize import SizeHW
from torso.images import Source, read_image, stack_images
from torso.inference.detections import Detections
from torso.inference.runtime import Detecting, Precision, Runtime
from torso.inference.views import PendingView, SplitImage, merge_views, split_image, to_original, with_scaled_limits
from torso.inputs._stack import stacked
from torso.inputs.pyramid import Pyramid
from torso.inputs.tiles import Tiles
from torso.plain_values import checked
from torso.types import Candidates, Images

_PATIENCE = 8  # batches that an image of a rare shape waits for company before it goes alone


class Predictor:
    """Runs a detector on images of any kind and size; one Detections an image, in the order they came.

    Args:
        model: is left as it is: its modes are restored after every call, and it is copied wherever the device,
            precision, compilation or graphs ask for other weights than its own.
        score_threshold: what scores below it is left out; the head has its own threshold before suppression.
        batch_size: images of one padded shape run together. An image's shape depends on that image alone, so
            what is found in it does not depend on its neighbours.
        device: None is the model's own.
        precision: "auto" is bf16 on CUDA and 32 elsewhere.
        compile, graphs: see Runtime; batches are then filled up to batch_size, so that shapes stay few.
        tiles, pyramid: laid over the model's own input policy, in the place of tiles and pyramid that it has. A number
            is the side of a square tile in px of the image, a tuple the scales of the pyramid.
    """

    @checked
    def __init__(
        self,
        model: Detecting,
        *,
        score_threshold: Probability = 0.0,
        batch_size: Count = 1,
        device: torch.device | str | None = None,
        precision: Precision = "auto",
        compile: bool = False,
        graphs: bool = False,
        tiles: Tiles | int | None = None,
        pyramid: Pyramid | tuple[float, ...] | None = None,
    ) -> None:
        self.device = _device(device) if device is not None else model.mean.device
        if self.device != model.mean.device:
            model = copy.deepcopy(model).to(self.device)
        self.model, self.score_threshold, self.batch_size = model, score_threshold, batch_size
        own = tiles is None and pyramid is None
        self.input = model.input if own else stacked(model.input, tiles=tiles, pyramid=pyramid)
        if self.input.together and model.has_third_stage:
            raise ValueError(
                "this model's head has a third stage, which needs the maps of each view, but its input's views are "
                "suppressed together: give no pyramid, and tiles with merge=union"
            )
        self._fixed = compile or graphs
        own_weights = precision == "32" or (precision == "auto" and self.device.type != "cuda")
        self._runtime = (
            None
            if own_weights and not self._fixed
            else Runtime(model, precision=precision, compile=compile, graphs=graphs, suppress=not self.input.together)
        )

    def __call__(self, sources: Iterable[Source]) -> list[Detections]:
        """Detections of every source, in order."""
        return list(self.stream(sources))

    def stream(self, sources: Iterable[Source]) -> Iterator[Detections]:
        """The same one by one: reads `sources` as it goes and holds only the images of the batches in the making.

        ValueError names an image that cannot be read.
        """
        return self.stream_split(self._image(source) for source in sources)

    def stream_split(self, split: Iterable[SplitImage]) -> Iterator[Detections]:
        """The same for images that are taken apart already (inference.views), as a loader's processes do."""
        waiting: deque[_Entry] = deque()
        pending: _Pending = {}
        for one in split:
            entry = _Entry(one.original_hw, one.path)
            waiting.append(entry)
            for view, pixels in one.shown:
                entry.views.append(PendingView(view, pixels))
                queue = pending.setdefault(view.canvas_hw, deque())
                queue.append(entry.views[-1])
                if len(queue) >= self.batch_size:
                    self._run(queue)
            if len(waiting) > _PATIENCE * self.batch_size:
                self._finish(waiting[0], pending)
            yield from self._finished(waiting)
        while waiting:
            self._finish(waiting[0], pending)
            yield from self._finished(waiting)

    def _image(self, source: Source) -> SplitImage:
        path = source if isinstance(source, str | Path) else None
        return split_image(read_image(source), self.input, self.model.multiple, path)

    def _finish(self, entry: _Entry, pending: _Pending) -> None:
        """Run the batches that this image's views wait for."""
        for one in entry.views:
            if one.found is None:
                self._run(pending[one.view.canvas_hw])

    def _finished(self, waiting: deque[_Entry]) -> Iterator[Detections]:
        while waiting and all(one.found is not None for one in waiting[0].views):
            entry = waiting.popleft()
            yield self._detections(merge_views(entry.views, entry.original_hw, self.input, self._suppress), entry)

    def _run(self, queue: deque[PendingView]) -> None:
        """Detect in the first batch_size waiting views of one shape."""
        batch = [queue.popleft() for _ in range(min(self.batch_size, len(queue)))]
        tensors = [one.pixels for one in batch]
        scales = [to_original(one.view) for one in batch]
        if self._fixed:  # the graph was made for full batches; the last image stands in for the missing ones
            tensors += tensors[-1:] * (self.batch_size - len(batch))
            scales += scales[-1:] * (self.batch_size - len(batch))
        found = self.detect(stack_images(tensors, batch[0].view.canvas_hw, scales))
        for row, one in enumerate(batch):
            one.found = found.image(row)
            one.pixels = one.pixels[:, :0]  # a batch of results may wait long; its pixels need not

    def detect(self, images: Images) -> Candidates:
        """Candidates of one batch on the CPU, in input pixels; before suppression where views share one."""
        if self._runtime is not None:
            return self._runtime(images).on_cpu()
        function = self.model.candidates if self.input.together else self.model.detect
        with torch.inference_mode(), evaluating(self.model):
            return function(Images(*(x.to(self.device) for x in images))).on_cpu()

    def _suppress(self, found: Candidates, times: int) -> Candidates:
        """Suppression of rows from the CPU, on the model's device; times: how many images' limits they have."""
        suppression = with_scaled_limits(self.model.suppression, times)
        return suppression(found.map(lambda column: column.to(self.device))).on_cpu()

    def _detections(self, found: Candidates, entry: _Entry) -> Detections:
        scores = found.scores[0]
        kept = (scores > 0) & (scores >= self.score_threshold)
        return Detections(
            boxes=found.boxes[0][kept].clone(),
            scores=scores[kept].float().clone(),
            labels=found.labels[0][kept].clone(),
            names=self.model.names,
            variance=None if found.variance is None else found.variance[0][kept].clone(),
            image_size_hw=entry.original_hw,
            path=entry.path,
        )


_Pending = dict[SizeHW, deque[PendingView]]


@dataclass
class _Entry:
    """One image on its way, with its views in order."""

    original_hw: SizeHW
    path: str | Path | None
    views: list[PendingView] = field(default_factory=list)


def _device(name: torch.device | str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device {name!r} came; 'cpu', 'cuda' or 'cuda:0' were wanted") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} came, but torch finds no CUDA device here; use device='cpu'")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


@contextmanager
def evaluating(model: Detecting | nn.Module) -> Iterator[None]:
    """Every module in eval mode inside, and in whichever mode it was before afterwards (frozen norms included)."""
    modes = [(module, module.training) for module in model.modules()]
    if not any(training for _, training in modes):
        yield
        return
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
