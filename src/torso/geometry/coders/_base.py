"""The contract of a coder: encode and decode are inverses on boxes that the code can express."""

from __future__ import annotations

from torch import Tensor

from torso.plain_values import Checked
from torso.types import Priors


class Coder(Checked):
    """Between boxes [..., N, 4] (xyxy, input pixels) and codes [..., N, width]; priors broadcast from the right.

    Both directions compute in float32 or better, whatever the codes' type.

    bins: values of each side's distribution, where codes are logits of one (width 4 * bins); 0 where they are numbers.
    holds_center: whether it says only boxes that hold their prior's centre, as distances that are never negative do.
    """

    width: int = 4
    bins: int = 0
    holds_center: bool = False

    def encode(self, boxes: Tensor, priors: Priors) -> Tensor:
        """What the head should have predicted for these boxes."""
        raise NotImplementedError

    def decode(self, codes: Tensor, priors: Priors) -> Tensor:
        """The boxes that these codes say; differentiable."""
        raise NotImplementedError

    def decode_variance(self, variance: Tensor, codes: Tensor, priors: Priors) -> Tensor:
        """First-order variance of the corners, px^2 [..., N, 4], from the variance of independent codes."""
        raise NotImplementedError

    def bin_targets(self, boxes: Tensor, priors: Priors) -> Tensor:
        """[..., N, 4] in 0..bins - 1: where the distributions of these boxes have their means. Where bins > 0."""
        raise NotImplementedError(f"{type(self).__name__} predicts numbers, not distributions")
