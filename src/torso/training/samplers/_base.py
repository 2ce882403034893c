"""The contract of a sampler: turns rows that are not drawn into ignored ones."""

from __future__ import annotations

from torso.training.targets import Assignment


class Sampler:
    """Draws with torch's generator, so a step's draws follow from the step's seed."""

    def __call__(self, assignment: Assignment) -> Assignment:
        raise NotImplementedError
