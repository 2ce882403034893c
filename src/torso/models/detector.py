"""A detector: backbone, necks and head in a chain; it ends at raw predictions and knows no target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from torso.backbones._base import Backbone
from torso.heads._base import ClassRows, Head
from torso.images import as_images
from torso.inputs._base import Input
from torso.inputs.letterbox import Letterbox
from torso.models._base import Model
from torso.necks._base import Neck
from torso.parts import Part, part
from torso.plain_values import Checked
from torso.suppression._base import Suppression
from torso.suppression.nms import NMS
from torso.types import Candidates, Images, RawPredictions

if TYPE_CHECKING:
    from torso.inference.detections import Detections
    from torso.inputs.pyramid import Pyramid
    from torso.inputs.tiles import Tiles


class Detector(Checked, Model):
    """images -> backbone -> necks -> head -> raw predictions; `detect` goes on to decoded and suppressed candidates.

    Args:
        backbone, neck, head: parts; each is built with what the one before publishes. No neck is legal.
        suppression: how `detect` and `predict` remove duplicates; the network does not know it.
        input: the size at which images are presented to the network by `predict` and, by default, in training.
    """

    task: ClassVar[str] = "detection"
    classes_argument: ClassVar[str] = "head.num_classes"

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        backbone: Part[Backbone],
        head: Part[Head],
        neck: Part[Neck] | tuple[Part[Neck], ...] | None = None,
        suppression: Part[Suppression] = part(NMS),
        input: Part[Input] = part(Letterbox),
    ) -> None:
        super().__init__()
        self.backbone = backbone.build()
        specs = self.backbone.out_specs
        self.neck = nn.ModuleList()
        for n in (neck,) if isinstance(neck, Part) else neck or ():
            module = n.build(specs)
            self.neck.append(module)
            specs = module.published
        self.head = head.build(specs)
        self.suppression, self.input = suppression.build(), input.build()
        self.suppression.check(self.head)
        self.multiple = self.backbone.multiple
        self.num_classes = self.head.num_classes
        self.names = tuple(str(i) for i in range(self.num_classes))
        for name, values in (("mean", self.backbone.mean), ("std", self.backbone.std)):
            self.register_buffer(name, torch.tensor(values).mul(255).view(1, 3, 1, 1), persistent=False)
        # weights in this order make convolutions 1.5 times as fast on a CPU (oneDNN) and 1.2 to 2 times on CUDA
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs

    def forward(self, images: Images | Tensor) -> RawPredictions:
        """Raw predictions of a batch: Images, or a tensor [B, 3, H, W] of RGB in 0..255 (uint8 or floating)."""
        images = as_images(images, self.multiple)
        return self.head(self.features(images), images)  # type: ignore[no-any-return]

    def features(self, images: Images | Tensor) -> list[Tensor]:
        """The maps that the head sees, fine to coarse."""
        images = as_images(images, self.multiple)
        features: list[Tensor] = self.backbone(self.normalise(images))
        for neck in self.neck:
            features = neck(features)
        return features

    def normalise(self, images: Images) -> Tensor:
        """[B, 3, H, W] pixels in the backbone's units and weight type; padding is exactly 0 whatever it holds."""
        pixels = (images.pixels.to(self.mean) - self.mean) / self.std
        height, width = pixels.shape[-2:]
        y = torch.arange(height, device=pixels.device)[:, None] < images.size_hw[:, 0, None, None]
        x = torch.arange(width, device=pixels.device) < images.size_hw[:, 1, None, None]
        return torch.where((y & x)[:, None], pixels, 0.0).to(next(self.backbone.parameters()).dtype)

    def detect(self, images: Images | Tensor) -> Candidates:
        """Candidates of a batch, best first, duplicates removed, in input pixels.

        Where the head has a third stage, it has seen them with the maps of the same pass; other heads' maps are freed
        before suppression.
        """
        if not self.has_third_stage:
            return self.suppression(self.candidates(images))
        images = as_images(images, self.multiple)
        features = self.features(images)
        kept = self.suppression(self.head.decode(self.head(features, images), images))
        return self.head.refine(features, kept, images)

    def candidates(self, images: Images | Tensor) -> Candidates:
        """What the head decodes, before suppression, in input pixels."""
        images = as_images(images, self.multiple)
        return self.head.decode(self(images), images)

    def predict(
        self,
        images: Any,
        *,
        score_threshold: float = 0.0,
        batch_size: int = 1,
        tiles: Tiles | int | None = None,
        pyramid: Pyramid | tuple[float, ...] | None = None,
    ) -> Detections | list[Detections]:
        """Detections in original pixels of a path, PIL image, array [H, W, 3], tensor [3, H, W], or a list of them.

        One image gives one Detections, a list gives a list. The model is put in eval mode for the call only.
        tiles, pyramid: as in Predictor; predict(image, tiles=640) looks at tiles of 640 x 640 px.
        """
        from torso.inference.predictor import Predictor

        single = not isinstance(images, list | tuple)
        predictor = Predictor(
            self, score_threshold=score_threshold, batch_size=batch_size, tiles=tiles, pyramid=pyramid
        )
        found = predictor([images] if single else images)
        return found[0] if single else found

    @property
    def has_third_stage(self) -> bool:
        """Whether `detect` ends in a stage of the head that looks at the rows which suppression kept (Head.refine)."""
        return self.head.has_third_stage

    @property
    def specs(self) -> Sequence[tuple[str, Any]]:
        """(stage, its out_specs) of the backbone and every neck, in order: what `torso show` prints."""
        return [("backbone", self.backbone.out_specs), *((f"neck {i}", n.out_specs) for i, n in enumerate(self.neck))]

    def published_parameters(self) -> Iterable[nn.Parameter]:
        """Of the backbone, without blocks and norms that were added to it."""
        return self.backbone.published_parameters()

    def load_pretrained(self, source: str) -> None:
        """Backbone weights: "hub" or a local file."""
        self.backbone.load_pretrained(source)

    def class_rows(self, parameter: str) -> ClassRows | None:
        """Those of the head."""
        return self.head.class_rows(parameter.removeprefix("head.")) if parameter.startswith("head.") else None
