"""Running statistics of the BatchNorms that learn: kept from a step that will not happen, and quick to begin."""

from __future__ import annotations

import math
from itertools import chain

import torch
from torch import Tensor, nn

_RAMP = 9


class RunningStatistics:
    """What an optimiser step leaves in the running means and variances of the norms that are learning now.

    A norm begins at mean 0 and variance 1 and remembers that for a few times 1 / momentum batches: a thousand at
    TensorFlow's 0.01, by when a short training is over, and predicts as if its maps still had that variance. So the
    share of the n-th batch is 9 / (n + 10) for as long as that is more than the momentum (the ramp of TensorFlow's
    ExponentialMovingAverage: what is remembered grows with what was seen, and early maps, of a network that hardly
    knew anything, are forgotten in time). From then on, and for statistics that came with published weights, they are
    BatchNorm's own to the bit.

    A step whose gradients are not finite does not happen, and leaves nothing here either.

    Args:
        model: on its device, in train mode. Norms that hold statistics but count no batches (files of before torch
            1.0 have no count) are taken as settled: their count is set beyond the ramp.

    A norm may see several batches a step (micro-batches, or levels that share it): its own count tells how many.
    """

    def __init__(self, model: nn.Module) -> None:
        norms = [
            m
            for m in model.modules()
            if isinstance(m, nn.modules.batchnorm._NormBase) and m.training and m.num_batches_tracked is not None
        ]
        for norm in norms:
            _count_what_is_known(norm)
        pairs = [(norm.running_mean, norm.running_var) for norm in norms]
        self._statistics = [buffer for buffer in chain(*pairs) if buffer is not None]
        self._counts = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
        self._sizes = [len(buffer) for buffer in self._statistics]
        if norms:
            device = self._counts[0].device
            lengths = torch.tensor([2 * norm.num_features for norm in norms])
            self._norm_of = torch.arange(len(norms)).repeat_interleave(lengths).to(device)
            momenta = torch.tensor([1.0 if norm.momentum is None else norm.momentum for norm in norms])
            self._log_kept = torch.log1p(-momenta).to(device, self._statistics[0].dtype)

    @torch.no_grad()
    def snapshot(self) -> None:
        """Before the forward pass."""
        if self._counts:
            self._before = torch.cat(self._statistics)
            self._batches = torch.stack(self._counts)

    @torch.no_grad()
    def restore(self, skipped: Tensor) -> None:
        """After the step. skipped: scalar on the device, 1 where it did not happen."""
        if not self._counts:
            return
        now, counts = torch.cat(self._statistics), torch.stack(self._counts)
        seen = (counts - self._batches).to(now.dtype)
        taken = -torch.expm1(seen * self._log_kept)  # 1 - (1 - momentum)^seen: what BatchNorm gave the new batches
        share = _RAMP * seen / (self._batches + _RAMP * seen + 1)
        gain = (share / taken)[self._norm_of]  # not a number where none was seen, and then not above 1
        new = torch.where(gain > 1.0, self._before + gain * (now - self._before), now)
        new = torch.where(skipped > 0, self._before, new)
        counts = torch.where(skipped > 0, self._batches, counts)
        torch._foreach_copy_(self._statistics, torch.split(new, self._sizes))
        torch._foreach_copy_(self._counts, counts.unbind())


@torch.no_grad()
def _count_what_is_known(norm: nn.modules.batchnorm._NormBase) -> None:
    mean, var, count = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert mean is not None
    assert var is not None
    assert count is not None
    at_start = bool((mean == 0).all()) and bool((var == 1).all())
    if norm.momentum and int(count) == 0 and not at_start:
        count.fill_(math.ceil(_RAMP / norm.momentum) + 1)
