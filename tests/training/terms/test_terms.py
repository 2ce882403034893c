"""A term is one file: one given from outside is summed, counted, checked and compiled like the built-in ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.geometry.coders._base import Coder
from torso.heads._base import Head
from torso.parts import Part, PartError, find, names, part
from torso.training.assigners._base import Assigner
from torso.training.criteria._base import loss_of
from torso.training.criteria.dense import DenseCriterion
from torso.training.terms._base import Learners, Normaliser, Rows, Term, weighed
from torso.training.terms.box import BoxTerm
from torso.types import DensePredictions, FeatureSpec, Images
from torso.zoo.retinanet import RetinaNetHead

SPECS = tuple(FeatureSpec(8, (s, s)) for s in (8, 16, 32, 64, 128))
IMAGES = Images(torch.zeros(2, 3, 64, 64), torch.full((2, 2), 64.0), torch.ones(2, 4))
SIZES = [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]


class CenterTerm(Term):
    """How far the centres of decoded boxes lie from those of their targets, in pixels, over the positives."""

    name = "center"
    reads_boxes = True

    def __init__(
        self,
        assigner: Assigner,
        normaliser_of_all: Normaliser,
        *,
        weight: float = 1.0,
        normaliser: Normaliser | None = None,
        coder_width: int = 4,
    ) -> None:
        super().__init__(assigner, normaliser_of_all, weight=weight, own=normaliser)
        self.coder_width = coder_width

    def sums(self, learners: Learners, rows: Rows) -> Tensor:
        assert rows.boxes is not None
        off = (rows.boxes[..., :2] + rows.boxes[..., 2:] - rows.target_boxes[..., :2] - rows.target_boxes[..., 2:]) / 2
        return weighed(off.abs().sum(-1), learners) * self.weight

    def check(self, head: Head, coder: Coder, path: str) -> None:
        if coder.width != self.coder_width:
            raise PartError("CenterTerm reads other codes", remedies=[{f"{path}.coder_width": coder.width}])


def predictions() -> tuple[Any, DensePredictions]:
    torch.manual_seed(0)
    head = RetinaNetHead(SPECS, num_classes=3, channels=8, tower=1)
    raw = head([torch.randn(2, 8, *size) for size in SIZES], IMAGES)
    return head, raw._replace(codes=torch.randn_like(raw.codes) * 0.1)


def targets() -> Targets:
    boxes = torch.tensor([[[4.0, 4, 40, 36], [20, 20, 60, 60]], [[8, 10, 30, 50], [0, 0, 1, 1]]])
    valid = torch.tensor([[True, True], [True, False]])
    return Targets(boxes, torch.tensor([[0, 2], [1, 0]]), valid, torch.zeros_like(valid))


def criterion(**center: Any) -> DenseCriterion:
    return DenseCriterion(others=(part(CenterTerm, **center),))


def test_it_adds_its_sum_and_count_and_leaves_the_others_alone() -> None:
    head, raw = predictions()
    made = criterion(weight=2.0)
    made.check_head(head)
    terms, plain = made.terms(raw, targets(), head), DenseCriterion().terms(raw, targets(), head)
    assert list(terms) == ["cls", "box", "center"]
    assert all(torch.equal(terms[k].total, plain[k].total) for k in plain)
    matches = made.matches(raw, targets(), head)
    boxes = head.coder.decode(raw.codes, raw.priors)
    by_hand = 0.0
    for image, row in matches.positive.nonzero().tolist():
        target_boxes = targets().boxes[image, matches.target[image, row]]
        by_hand += float(((boxes[image, row] - target_boxes).reshape(2, 2).mean(0)).abs().sum()) * 2
    assert float(terms["center"].total) == pytest.approx(by_hand, rel=1e-4)
    assert float(terms["center"].count) == float(matches.positive.sum())


def test_it_is_counted_ahead_by_its_own_normaliser() -> None:
    head, raw = predictions()
    made, model = criterion(normaliser="batch"), SimpleNamespace(head=head)
    ahead = made.counts(model, IMAGES, targets(), SIZES)  # type: ignore[arg-type]
    assert {k: float(v) for k, v in ahead.items()} == {
        k: float(t.count) for k, t in made.terms(raw, targets(), head).items()
    }
    assert float(ahead["center"]) == 2


def test_it_compiles_with_the_rest() -> None:
    head, raw = predictions()
    made = criterion()

    def loss(codes: Tensor) -> Tensor:
        return loss_of(made.terms(raw._replace(codes=codes), targets(), head))[0]

    codes = raw.codes.detach().requires_grad_()
    torch.compiler.reset()
    got = torch.compile(loss, fullgraph=True, backend="aot_eager")(codes)
    torch.testing.assert_close(got, loss(codes))
    assert torch.autograd.grad(got, codes)[0].any()


def test_its_check_names_its_own_path() -> None:
    head, _ = predictions()
    with pytest.raises(PartError) as refused:
        criterion(coder_width=5).check_head(head)
    assert refused.value.remedies == ({"criterion.others.0.coder_width": 4},)


def test_it_is_recorded_and_changed_like_any_part() -> None:
    made = part(DenseCriterion, others=(part(CenterTerm),)).override("others.0.weight", "3")
    record = made.to_dict()
    assert Part.from_dict(record, allow=(CenterTerm.__module__,)) == made
    assert made.build().others[0].weight == 3


def test_two_terms_of_one_name_are_refused() -> None:
    with pytest.raises(PartError, match="names that no other term has"):
        DenseCriterion(others=(part(BoxTerm),))


@pytest.mark.parametrize("name", names("terms"))
def test_every_term_takes_a_weight_and_a_normaliser(name: str) -> None:
    term: Any = find(name, "terms")
    made = part(term, weight=0.5, normaliser="batch").build(DenseCriterion().assigner, "positives")
    assert (made.weight, made.normaliser) == (0.5, "batch")
    assert part(term).build(DenseCriterion().assigner, "targets").normaliser == "targets"
    with pytest.raises(PartError, match="expected a number of at least 0, got -1"):
        part(term, weight=-1.0).build(DenseCriterion().assigner, "positives")


def test_no_step_checks_the_combination(monkeypatch: pytest.MonkeyPatch) -> None:
    head, raw = predictions()
    made = DenseCriterion()

    def never(*_: object) -> None:
        raise AssertionError("a step asked whether its parts fit")

    monkeypatch.setattr("torso.training.criteria.dense.check_combination", never)
    made.terms(raw, targets(), head)
