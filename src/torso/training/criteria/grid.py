"""The criterion of YOLOv1: one sum of squared errors over cells (Redmon et al. 2015, arXiv 1506.02640, equation 3)."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.data.targets import Targets
from torso.heads.grid import GridHead
from torso.models.detector import Detector
from torso.parts import PartError
from torso.training.criteria._base import Criterion, Term, Terms
from torso.training.criteria._grid_cells import cells_of, responsible
from torso.types import GridPredictions, Images


class GridCriterion(Criterion):
    """loss = cls + box + objectness, each a sum of squared errors divided by the pictures of the effective batch.

    A cell learns the first truth whose centre it holds: its class vector, and the one of its boxes that fits best now,
    by IoU, or where none overlaps by the distance of their coordinates (darknet). That box's confidence learns its IoU,
    all others 0.

    Args:
        box_weight, background_weight, object_weight, cls_weight: the paper's 5 and 0.5, and darknet's names for the
            ones; of the box term, of confidences without and with an object, of the class vectors.
    """

    fixed = MappingProxyType(
        {
            "assigner": "YOLOv1's cells are responsible by construction, each for the truth whose centre it holds",
            "cls_loss": "YOLOv1's loss is one sum of squared errors, its class term too",
            "box_loss": "YOLOv1's loss is one sum of squared errors, its box term too",
            "sampler": "every cell of YOLOv1 counts, empty ones with less weight",
        }
    )

    def __init__(
        self,
        *,
        box_weight: float = 5.0,
        background_weight: float = 0.5,
        object_weight: float = 1.0,
        cls_weight: float = 1.0,
    ) -> None:
        super().__init__()
        weights = (box_weight, background_weight, object_weight, cls_weight)
        if min(weights) < 0:
            raise PartError(f"weights of the grid criterion must not be negative; {weights} came")
        self.box_weight, self.background_weight, self.object_weight, self.cls_weight = weights

    def forward(self, model: Detector, images: Images, targets: Targets) -> Terms:
        head = self._grid_head(model)
        raw = model(images)
        assert isinstance(raw, GridPredictions)
        return self.terms(raw, targets, head)

    @property
    def counts_need_predictions(self) -> bool:
        return False

    @torch.no_grad()
    def counts(
        self, model: Detector, images: Images, targets: Targets, sizes_hw: Sequence[tuple[int, int]]
    ) -> dict[str, Tensor]:
        return dict.fromkeys(("cls", "box", "objectness"), _pictures(targets))

    def check(self, model: Detector) -> None:
        self._grid_head(model)

    def terms(self, raw: GridPredictions, targets: Targets, head: GridHead) -> Terms:
        """The terms of one prediction."""
        codes = raw.codes.float()
        with torch.no_grad():
            cells = cells_of(raw.priors, targets)
            iou, chosen = responsible(head.coder.decode(codes, raw.priors), raw.priors, cells)
            wanted = head.coder.encode(cells.truth(raw.priors), raw.priors)
            count = _pictures(targets)
        off = (codes - wanted).square().sum(-1)
        box = torch.where(chosen, off, 0.0).sum() * self.box_weight
        confidence = (raw.confidences.float() - torch.where(chosen, iou, 0.0)).square()
        objectness = (confidence * torch.where(chosen, self.object_weight, self.background_weight)).sum()
        labels = F.one_hot(cells.label, head.num_classes).to(codes)
        wrong = (raw.scores.float() - labels).square().sum(-1)
        cls = torch.where(cells.filled, wrong, 0.0).sum() * self.cls_weight
        return {"cls": Term(cls, count), "box": Term(box, count), "objectness": Term(objectness, count)}

    def _grid_head(self, model: Detector) -> GridHead:
        if not isinstance(model.head, GridHead):
            raise PartError(
                f"the grid criterion wants YOLOv1's head; {type(model.head).__name__} is none: train it with its own "
                "criterion, or choose --head grid"
            )
        return model.head


def _pictures(targets: Targets) -> Tensor:
    return torch.full((), float(targets.boxes.shape[0]), device=targets.boxes.device)
