"""What is missing for a dense head, an assigner and the terms of a loss to learn together, with the settings for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torso.errors import Remedy, Settings
from torso.geometry.coders.yolo import YOLOCoder
from torso.heads.dense import DenseHead
from torso.parts import PartError, find, names
from torso.training.assigners._base import Assigner, Missing
from torso.training.losses.yolo_box import YOLOBoxLoss
from torso.training.samplers._base import Sampler
from torso.training.terms._base import Normaliser, Term
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.training.terms.quality import QualityTerm

_NAMED = 4  # of the assigners that fit, a sentence names so many


class Combination(NamedTuple):
    """What meets in a dense criterion. terms: all of them, by the path of their arguments ("criterion.box")."""

    head: DenseHead
    assigner: Assigner
    sampler: Sampler | None
    normaliser: Normaliser
    cls: ClassificationTerm
    box: BoxTerm
    quality: QualityTerm
    terms: Mapping[str, Term]

    @property
    def objectness(self) -> bool:
        """Whether a branch learns background."""
        return self.head.has_quality and self.quality.on == "used"


def check_combination(them: Combination) -> None:
    """Raise PartError where these cannot learn together, with the reason and the remedies."""
    _check_scores(them)
    check_assigner(them)
    for path, term in them.terms.items():
        term.check(them.head, them.head.coder, path)
    _check_background(them)


def check_assigner(them: Combination) -> None:
    """Raise PartError where the assigner cannot train this head, or something is missing for it.

    The message holds every reason; each remedy mends all of them, or names an assigner for which nothing is missing.
    """
    missing = _missing(them)
    if not missing:
        return
    reasons = "; and it ".join(need.reason for need in missing)
    others: list[Remedy] = [{"criterion.assigner": name} for name in _fitting(them)[:_NAMED]]
    raise PartError(
        f"{type(them.assigner).__name__} {reasons}", remedies=[*_ways(them), *others] or ["choose another head"]
    )


def _ways(them: Combination) -> list[Remedy]:
    """Settings of which each supplies all that is missing; [] where none do."""
    missing = _missing(them)
    if not all(need.settings for need in missing):
        return []
    ways: list[Remedy] = [_together(missing)]
    if _missing_score(them):
        ways.append({**_together(_missing(them, hard=True)), "criterion.cls.target": "one"})
    return ways


def _together(missing: list[Missing]) -> Settings:
    return {path: value for need in missing for path, value in need.settings.items()}


def _missing(them: Combination, *, hard: bool = False) -> list[Missing]:
    """hard: as if classes were asked to score 1."""
    scores = [] if hard else _missing_score(them)
    return [*them.assigner.missing(them.head), *_missing_cell(them), *_missing_pair(them), *_missing_quality(them,
            hard), *scores]  # fmt: skip


def _fitting(them: Combination) -> list[str]:
    """Names of the assigners for which nothing is missing here."""
    return [name for name, assigner in _assigners().items() if not _missing(them._replace(assigner=assigner))]


def _assigners() -> dict[str, Assigner]:
    made: dict[str, Callable[[], object]] = {name: find(name, "assigners") for name in names("assigners")}
    built = {name: make() for name, make in made.items()}
    return {name: assigner for name, assigner in built.items() if isinstance(assigner, Assigner)}


def _missing_cell(them: Combination) -> list[Missing]:
    if them.assigner.at_cell or not isinstance(them.head.coder, YOLOCoder):
        return []
    read = {"criterion.box.loss": "smooth_l1"} if isinstance(them.box.loss, YOLOBoxLoss) else {}  # codes of that coder
    reason = "gives a target to priors of several cells, but the yolo coder says only centres in a prior's own cell"
    return [Missing(reason, {"head.coder": "delta", **read})]


def _missing_pair(them: Combination) -> list[Missing]:
    """Of several targets a prior, one class column cannot say which: background is an objectness branch's."""
    if not them.assigner.gives_pairs:
        return []
    missing, quality = [], them.quality
    asked = {
        "head.quality": ("box", not them.head.has_quality),
        "criterion.cls.on": ("positives", them.cls.on == "used"),
        "criterion.quality.on": ("used", quality.on != "used"),
        "criterion.quality.target": ("iou", quality.target == "assigner"),
    }
    settings = {path: value for path, (value, needed) in asked.items() if needed}
    if settings:
        reason = "gives a prior several targets, so classes are learnt a pair and background by an objectness branch"
        missing.append(Missing(reason, settings))
    if them.sampler is not None:
        missing.append(Missing("gives pairs, which nothing samples", {"criterion.sampler": None}))
    return missing


def _missing_quality(them: Combination, hard: bool) -> list[Missing]:
    """Soft targets that somebody asks of the assigner, and that it does not give."""
    if them.assigner.gives_quality:
        return []
    settings: dict[str, object] = {}
    for path, term in them.terms.items():
        settings |= term.without_quality(them.assigner, them.head, path)
    if them.normaliser == "quality":
        settings["criterion.normaliser"] = "positives"
    if hard:
        settings.pop("criterion.cls.target", None)
    if not settings:
        return []
    who = "class loss or a normaliser"
    if "criterion.box.weighting" in settings:
        who = "weighting of the boxes"
    if "head.quality" in settings or "criterion.quality.target" in settings:
        who = "quality branch of the head"
    of_the_head_first = dict(sorted(settings.items(), key=lambda setting: not setting[0].startswith("head.")))
    return [Missing(f"gives no soft targets, which the {who} learns from", of_the_head_first)]


def _wants_soft_scores(them: Combination) -> bool:
    """Whether positives' classes are to score less than 1: as asked, or by an assigner whose score no branch learns."""
    if them.cls.asked is not None:
        return them.cls.asked != "one"
    branch = them.head.has_quality and them.quality.target == "assigner"
    return them.assigner.quality_is_score and not branch


def _missing_score(them: Combination) -> list[Missing]:
    """A score that nobody learns: neither the class, whose loss takes none, nor a quality branch."""
    loss = them.cls.loss
    if loss.takes_quality or them.cls.asked or not _wants_soft_scores(them):
        return []
    reason = f"says what a positive's class should score, but {type(loss).__name__} teaches every positive 1"
    scores = {"head.scores": "sigmoid"} if them.head.softmax else {}
    return [Missing(reason, {**scores, "criterion.cls.loss": "qfl"})]


def _check_scores(them: Combination) -> None:
    loss, head = them.cls.loss, them.head
    if loss.softmax == head.softmax:
        return
    expected, has = ("softmax", "sigmoid") if loss.softmax else ("sigmoid", "softmax")
    soft = _wants_soft_scores(them)
    hard: Settings = {"criterion.cls.target": "one"} if soft else {}
    other = "cross_entropy" if head.softmax else "qfl" if soft else "focal"
    raise PartError(
        f"{type(loss).__name__} is a loss for {expected} scores, but the head has {has} scores",
        remedies=[
            {"criterion.cls.loss": other, **(hard if head.softmax else {})},
            {"head.scores": expected, **({} if loss.takes_quality else hard)},
        ],
    )


def _check_background(them: Combination) -> None:
    """Somebody must learn that most priors hold nothing."""
    if them.cls.on == "positives" and not them.objectness:
        raise PartError(
            "with criterion.cls.on=positives nothing learns background, which needs an objectness branch",
            remedies=[{"head.quality": "box", "criterion.quality.on": "used"}, {"criterion.cls.on": "used"}],
        )
    if them.cls.on == "used" and them.head.softmax and them.head.columns == them.head.num_classes:
        raise PartError(
            "a softmax without a background column cannot learn background, which an objectness branch then teaches",
            remedies=[{"criterion.cls.on": "positives"}],
        )
