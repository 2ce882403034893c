"""BatchNorm over the images of all ranks (MegDet, arXiv 1711.07240), compiled whole and without waiting."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from torso.layers.batch_norm import BatchNorm2d
from torso.layers.pooled_norm import PooledBatchNorm2d

# several ranks have several values even of pooled maps, so what the two of ours say of a single one is not needed
_KINDS = (nn.BatchNorm2d, BatchNorm2d, PooledBatchNorm2d, BatchNormAct2d)


class SyncBatchNorm(nn.BatchNorm2d):
    """In training the mean and variance of [B, C, H, W] over all ranks' places; in evaluation plain BatchNorm.

    torch's own picks the ranks that have data by a boolean mask, which waits for the device at every layer, and its
    graph cannot be compiled whole. norm: the one that this takes the place of, with its weights and statistics, and
    what timm's kind does next.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.drop: nn.Module = norm.drop if isinstance(norm, BatchNormAct2d) else nn.Identity()
        self.act: nn.Module = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
        self.training = norm.training

    def forward(self, x: Tensor) -> Tensor:
        y = self._over_ranks(x) if self.training else super().forward(x)
        normed: Tensor = self.act(self.drop(y))
        return normed

    def _over_ranks(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None
        wide = x if x.dtype == torch.float64 else x.float()
        # about the running mean, the same on every rank: E[x^2] - E[x]^2 about 0 would lose digits
        about = wide - self.running_mean[:, None, None]
        places = about.new_full((1,), float(x.shape[0] * x.shape[2] * x.shape[3]))
        c = x.shape[1]
        sums = sum_over_ranks(torch.cat([about.sum((0, 2, 3)), about.square().sum((0, 2, 3)), places]))
        total = sums[2 * c]
        mean = sums[:c] / total
        var = (sums[c : 2 * c] / total - mean.square()).clamp(min=0)
        self._remember(mean.detach(), var.detach(), total.detach())
        y = (about - mean[:, None, None]) * (self.weight * torch.rsqrt(var + self.eps))[:, None, None]
        normed: Tensor = (y + self.bias[:, None, None]).to(x.dtype)
        return normed

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor, total: Tensor) -> None:
        """Running statistics as BatchNorm keeps them: of the unbiased variance. mean is about the running mean."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.add_(mean.to(self.running_mean) * self.momentum)
        unbiased = var * total / (total - 1).clamp(min=1)
        self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        self.num_batches_tracked.add_(1)


def synchronise(model: nn.Module, ranks: int) -> str:
    """Replace, in place, the BatchNorms of `model` that learn now by SyncBatchNorms; says what was done.

    Frozen ones (in eval mode) stay: their statistics are stored, not taken. Keys of the state dict stay too. With one
    rank nothing is replaced: its own images are all there are.
    """
    if ranks == 1:
        return "sync_bn: there is one device, whose images BatchNorm sees together anyway"
    done = frozen = 0
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or isinstance(norm, SyncBatchNorm):
                continue
            if not norm.training:
                frozen += 1
                continue
            setattr(parent, name, _replacement(norm))
            done += 1
    return f"sync_bn: {done} norms share their statistics over {ranks} devices, {frozen} are frozen"


def _replacement(norm: nn.modules.batchnorm._BatchNorm) -> SyncBatchNorm:
    """ValueError for a kind of BatchNorm that does more than this file knows of."""
    settings = norm.affine and norm.track_running_stats and norm.momentum is not None
    if type(norm) not in _KINDS or not isinstance(norm, nn.BatchNorm2d) or not settings:
        raise ValueError(
            f"sync_bn cannot synchronise a {type(norm).__name__} of these settings; leave sync_bn out, or freeze the "
            "norms (backbone.frozen_norm)"
        )
    return SyncBatchNorm(norm)


@torch.library.custom_op("torso::sum_over_ranks", mutates_args=())
def sum_over_ranks(x: Tensor) -> Tensor:
    """The sum of every rank's x; the gradient of that is the sum of every rank's gradient."""
    out = x.clone()
    dist.all_reduce(out)
    return out


@sum_over_ranks.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def _backward(ctx: Any, gradient: Tensor) -> Tensor:
    summed: Tensor = sum_over_ranks(gradient.contiguous())
    return summed


sum_over_ranks.register_autograd(_backward)
