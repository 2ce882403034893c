"""Pictures in, Detections out: reads, batches by shape, runs the model and maps boxes back to original pixels."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from torso.geometry.resize import SizeHW
from torso.inference.detections import Detections
from torso.inference.images import Source, image_to_tensor, read_image, resize_image, stack_images
from torso.inference.runtime import Precision, Runtime
from torso.models.detector import Detector
from torso.types import Candidates, Images

_PATIENCE = 8  # batches that a picture of a rare shape waits for company before it goes alone


class Predictor:
    """Runs a detector on pictures of any kind and size; one Detections a picture, in the order they came.

    Args:
        model: is left as it is: its modes are restored after every call, and it is copied wherever the device,
            precision, compilation or graphs ask for other weights than its own.
        score_threshold: what scores below it is left out; the head has its own threshold before suppression.
        batch_size: pictures of one padded shape run together. A picture's shape depends on that picture alone, so
            what is found in it does not depend on its neighbours.
        device: None is the model's own.
        precision: "auto" is bf16 on CUDA and 32 elsewhere.
        compile, graphs: see Runtime; batches are then filled up to batch_size, so that shapes stay few.
    """

    def __init__(
        self,
        model: Detector,
        *,
        score_threshold: float = 0.0,
        batch_size: int = 1,
        device: torch.device | str | None = None,
        precision: Precision = "auto",
        compile: bool = False,
        graphs: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} came; at least 1 was wanted")
        if not 0 <= score_threshold <= 1:
            raise ValueError(f"score_threshold={score_threshold} came; a score in 0..1 was wanted")
        self.device = _device(device) if device is not None else model.mean.device
        if self.device != model.mean.device:
            model = copy.deepcopy(model).to(self.device)
        self.model, self.score_threshold, self.batch_size = model, score_threshold, batch_size
        self._fixed = compile or graphs
        own_weights = precision == "32" or (precision == "auto" and self.device.type != "cuda")
        self._runtime = (
            None
            if own_weights and not self._fixed
            else Runtime(model, precision=precision, compile=compile, graphs=graphs)
        )

    def __call__(self, sources: Iterable[Source]) -> list[Detections]:
        """Detections of every source, in order."""
        return list(self.stream(sources))

    def stream(self, sources: Iterable[Source]) -> Iterator[Detections]:
        """The same one by one: reads `sources` as it goes and holds only the pictures of the batches in the making.

        ValueError names a picture that cannot be read.
        """
        waiting: deque[_Entry] = deque()
        for source in sources:
            waiting.append(self._entry(source))
            self._run_ready(waiting, waiting[-1].canvas_hw)
            if len(waiting) > _PATIENCE * self.batch_size:
                self._run(waiting, waiting[0].canvas_hw)
            yield from _finished(waiting)
        while waiting:
            self._run(waiting, waiting[0].canvas_hw)
            yield from _finished(waiting)

    def _entry(self, source: Source) -> _Entry:
        picture = read_image(source)
        original = (picture.height, picture.width)
        resized = self.model.input.resized(original)
        return _Entry(
            pixels=image_to_tensor(resize_image(picture, resized)),
            original_hw=original,
            canvas_hw=self.model.input.padded([resized], self.model.multiple),
            path=source if isinstance(source, str | Path) else None,
        )

    def _run_ready(self, waiting: deque[_Entry], canvas_hw: SizeHW) -> None:
        if sum(e.found is None and e.canvas_hw == canvas_hw for e in waiting) >= self.batch_size:
            self._run(waiting, canvas_hw)

    def _run(self, waiting: deque[_Entry], canvas_hw: SizeHW) -> None:
        """Detect in the first batch_size waiting pictures of this shape."""
        batch = [e for e in waiting if e.found is None and e.canvas_hw == canvas_hw][: self.batch_size]
        tensors = [e.pixels for e in batch]
        scales = [(e.original_hw[1] / e.width, e.original_hw[0] / e.height, 0.0, 0.0) for e in batch]
        if self._fixed:  # the graph was made for full batches; the last picture stands in for the missing ones
            tensors += tensors[-1:] * (self.batch_size - len(batch))
            scales += scales[-1:] * (self.batch_size - len(batch))
        images = stack_images(tensors, canvas_hw, scales)
        found = self.detect(images)
        for row, entry in enumerate(batch):
            entry.found = self._detections(found, images, row, entry)
            entry.pixels = entry.pixels[:, :0]  # a batch of results may wait long; its pixels need not

    def detect(self, images: Images) -> Candidates:
        """Candidates of one batch on the CPU, in input pixels."""
        if self._runtime is not None:
            found = self._runtime(images)
        else:
            with torch.inference_mode(), evaluating(self.model):
                found = self.model.detect(Images(*(x.to(self.device) for x in images)))
        variance = found.variance.cpu() if found.variance is not None else None
        boxes, scores, labels, index = (x.cpu() for x in found[:4])
        return Candidates(boxes, scores, labels, index, variance)

    def _detections(self, found: Candidates, images: Images, row: int, entry: _Entry) -> Detections:
        scores = found.scores[row]
        kept = (scores > 0) & (scores >= self.score_threshold)
        height, width = entry.original_hw
        scale = images.to_original[row]
        limit = torch.tensor([width, height, width, height], dtype=torch.float32)
        boxes = found.boxes[row][kept].float() * scale[:2].repeat(2) + scale[2:].repeat(2)
        variance = found.variance[row][kept].float() * scale[:2].repeat(2) ** 2 if found.variance is not None else None
        return Detections(
            boxes=torch.minimum(boxes.clamp(min=0), limit).clone(),
            scores=scores[kept].float().clone(),
            labels=found.labels[row][kept].clone(),
            names=self.model.names,
            variance=variance,
            image_size_hw=entry.original_hw,
            path=entry.path,
        )


@dataclass
class _Entry:
    """One picture on its way: resized pixels uint8 [3, h, w], its batch's (H, W), and the answer once it is there."""

    pixels: Tensor
    original_hw: SizeHW
    canvas_hw: SizeHW
    path: str | Path | None
    found: Detections | None = None
    height: int = field(init=False)
    width: int = field(init=False)

    def __post_init__(self) -> None:
        self.height, self.width = int(self.pixels.shape[1]), int(self.pixels.shape[2])


def _finished(waiting: deque[_Entry]) -> Iterator[Detections]:
    while waiting and waiting[0].found is not None:
        found = waiting.popleft().found
        assert found is not None
        yield found


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
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode inside, and in whichever mode it was before afterwards (frozen norms included)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
