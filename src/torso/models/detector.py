"""A detector: backbone, necks and head in a chain; it ends at raw predictions and knows no target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torso.backbones._base import Backbone
from torso.heads._base import Head
from torso.inputs._base import Input
from torso.inputs.letterbox import Letterbox
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


class Detector(Checked, nn.Module):
    """images -> backbone -> necks -> head -> raw predictions; `detect` goes on to decoded and suppressed candidates.

    Args:
        backbone, neck, head: parts; each is built with what the one before publishes. No neck is legal.
        suppression: how `detect` and `predict` remove duplicates; the network does not know it.
        input: the size at which pictures are shown to the network by `predict` and, by default, in training.
    """

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
        self.names: tuple[str, ...] = tuple(str(i) for i in range(self.head.num_classes))
        for name, values in (("mean", self.backbone.mean), ("std", self.backbone.std)):
            self.register_buffer(name, torch.tensor(values).mul(255).view(1, 3, 1, 1), persistent=False)
        # weights in this order make convolutions 1.5 times as fast on a CPU (oneDNN) and 1.2 to 2 times on CUDA
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs

    def forward(self, images: Images) -> RawPredictions:
        return self.head(self.features(images), images)  # type: ignore[no-any-return]

    def features(self, images: Images) -> list[Tensor]:
        """The maps that the head sees, fine to coarse."""
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

    def detect(self, images: Images) -> Candidates:
        """Candidates of a batch, best first, duplicates removed, in input pixels."""
        return self.suppression(self.candidates(images))

    def candidates(self, images: Images) -> Candidates:
        """What the head decodes, before suppression, in input pixels."""
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

        One picture gives one Detections, a list gives a list. The model is put in eval mode for the call only.
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
    def specs(self) -> Sequence[tuple[str, Any]]:
        """(stage, its out_specs) of the backbone and every neck, in order: what `torso show` prints."""
        return [("backbone", self.backbone.out_specs), *((f"neck {i}", n.out_specs) for i, n in enumerate(self.neck))]
