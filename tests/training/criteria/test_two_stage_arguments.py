"""The two-stage criterion refuses counts that leave no proposal: 0 once stood for the head's own number."""

from __future__ import annotations

from typing import Any

import pytest

from torso.parts import part
from torso.training.criteria.two_stage import TwoStageCriterion
from torso.training.terms.box import BoxTerm


@pytest.mark.parametrize("arguments", [{"proposals": 0}, {"proposal_top": -5}])
def test_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected .*, got"):
        TwoStageCriterion(**arguments)


def test_a_negative_weight_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match=r"BoxTerm\.weight: expected a number of at least 0, got -1\.0"):
        part(BoxTerm, weight=-1.0)
