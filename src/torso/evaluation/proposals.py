"""How well proposals cover the objects, whatever their class: recall at an IoU and COCO's AR at k proposals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from torso.evaluation.coco import run_coco
from torso.evaluation.results import ResultsLike, as_results
from torso.evaluation.truth import TruthLike, as_truth


@dataclass(frozen=True)
class ProposalScores:
    """Recall 0..1 (-1 without objects): average over IoU 0.50:0.95:0.05 by k, and recall at one IoU by (IoU, k)."""

    average_recall: Mapping[int, float]
    recall: Mapping[tuple[float, int], float]

    def recall_at(self, iou: float, k: int) -> float:
        """Recall at one of the ten IoUs with the k best proposals an image; ValueError for any other."""
        if (round(iou, 2), k) not in self.recall:
            raise ValueError(f"no recall at IoU {iou} and {k} proposals; measured: {sorted(self.recall)}")
        return self.recall[round(iou, 2), k]


def evaluate_proposals(
    truth: TruthLike, results: ResultsLike, *, limits: Sequence[int] = (10, 100, 1000)
) -> ProposalScores:
    """Class-agnostic recall by COCO's matching (crowd regions ignored); classes of truth and results do not matter."""
    ground_truth = as_truth(truth)
    chosen = tuple(sorted(limits))
    found = as_results(results, ground_truth)
    one_class = replace(
        ground_truth,
        category_ids=np.ones(1, dtype=np.int64),
        names=("object",),
        label=np.zeros_like(ground_truth.label),
    )
    proposals = replace(found, label=np.zeros_like(found.label))
    run = run_coco(one_class, proposals, range(len(ground_truth.image_ids)), limits=chosen)
    recall = run.eval["recall"][:, 0, 0, :]  # [10 IoUs, limits], area all
    pairs = [(t, m) for t in range(recall.shape[0]) for m in range(recall.shape[1])]
    return ProposalScores(
        average_recall={k: float(np.mean(recall[:, m])) for m, k in enumerate(chosen)},
        recall={(round(float(run.params.iouThrs[t]), 2), chosen[m]): float(recall[t, m]) for t, m in pairs},
    )
