"""The two-stage criterion refuses counts that leave no proposal: 0 once stood for the head's own number."""

from __future__ import annotations

from typing import Any

import pytest

from torso.training.criteria.two_stage import TwoStageCriterion


@pytest.mark.parametrize("arguments", [{"proposals": 0}, {"proposal_top": -5}, {"box_weight": -1.0}])
def test_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="proposal_top >= 1, proposals >= 1 and box_weight >= 0"):
        TwoStageCriterion(**arguments)
