"""Run the RoIAlign kernels, and the operator around them, in Triton's interpreter on the CPU; fail where they differ.

A process of its own, because TRITON_INTERPRET=1 must be set before the kernels are imported and changes Triton for
good: `TRITON_INTERPRET=1 python -m kernels.interpreted` in tests/.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torso.kernels import roi_op as _roi_op
from torso.kernels.roi import multi_level_roi_align
from torso.kernels.roi_triton import pool_backward_triton, pool_triton

STRIDES = (4, 8)


def main() -> None:
    """Two levels, two blocks of channels, boxes out of the map and without extent, fixed and adaptive sampling."""
    draw = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 66, 52 // s, 36 // s, generator=draw).requires_grad_() for s in STRIDES]
    corner = torch.rand(2, 3, 2, generator=draw) * 50 - 15
    boxes = torch.cat([corner, corner + torch.exp(torch.rand(2, 3, 2, generator=draw) * 3.5)], dim=-1)
    boxes[1, 2] = 0
    levels = torch.tensor([[0, 1, 1], [1, 0, 0]])
    _roi_op.roi_pool.register_kernel("cpu")(pool_triton)
    _roi_op._roi_pool_backward.register_kernel("cpu")(_backward)
    for sampling, aligned in ((2, True), (2, False), (0, True)):
        arguments = (features, STRIDES, boxes, levels, 3, sampling, aligned)
        want = multi_level_roi_align(features, STRIDES, boxes, levels, size=3, sampling=sampling, aligned=aligned)
        got = _roi_op.roi_pool(*arguments)
        weight = torch.randn(want.shape, generator=draw)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        for mine, other in zip(
            torch.autograd.grad((got * weight).sum(), features),
            torch.autograd.grad((want * weight).sum(), features),
            strict=True,
        ):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
    halves = [f.detach()[:, :3].bfloat16() for f in features]
    got = pool_triton(halves, STRIDES, boxes, levels, 3, 2, True)
    want = multi_level_roi_align(halves, STRIDES, boxes, levels, size=3)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-3)
    few = [f.detach()[:, :3].requires_grad_() for f in features]
    torch.library.opcheck(_roi_op.roi_pool, (few, STRIDES, boxes[:, :1], levels[:, :1], 2, 1, True))


def _backward(
    grad: Tensor,
    strides: list[int],
    boxes: Tensor,
    levels: Tensor,
    heights: list[int],
    widths: list[int],
    size: int,
    sampling: int,
    aligned: bool,
) -> list[Tensor]:
    sizes = list(zip(heights, widths, strict=True))
    return pool_backward_triton(grad, strides, boxes, levels, sizes, size, sampling, aligned)


if __name__ == "__main__":
    main()
