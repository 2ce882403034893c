"""The first convolution of a backbone on three channels, computed on 2 x 2 blocks of pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StemConv2d(nn.Conv2d):
    """A stride-2 convolution of RGB pictures; compiled for CUDA it runs at stride 1 on blocks of 2 x 2 pixels.

    Three channels fill no tensor core: cuDNN takes 2.1 ms for ResNet's 7 x 7 on 16 x 800 x 1344 (H200), 20 times what
    its arithmetic needs. The weights and the function are those of the convolution, which pads by (kernel - 1) // 2:
    odd kernels are centred, and YOLOv5's 6 x 6 is padded by 2.
    """

    @classmethod
    def of(cls, conv: nn.Conv2d) -> StemConv2d:
        """The same convolution with the same parameters."""
        kernel = conv.kernel_size[0]
        stem = cls(conv.in_channels, conv.out_channels, kernel, 2, (kernel - 1) // 2, bias=conv.bias is not None)
        stem.weight, stem.bias = conv.weight, conv.bias
        return stem

    def forward(self, x: Tensor) -> Tensor:
        even = x.shape[-2] % 2 == 0 and x.shape[-1] % 2 == 0
        if not (x.is_cuda and torch.compiler.is_compiling() and even):
            return super().forward(x)
        return conv2d_on_blocks(x, self.weight, self.bias, (self.kernel_size[0] - 1) // 2)


def fits(conv: nn.Module) -> bool:
    """Whether a layer is such a first convolution: RGB, stride 2, square kernel, padded so that even sides halve."""
    if type(conv) is not nn.Conv2d or conv.in_channels != 3 or conv.groups != 1:
        return False
    kernel, pad = conv.kernel_size[0], (conv.kernel_size[0] - 1) // 2
    shape = (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    return shape == ((kernel, kernel), (2, 2), (pad, pad), (1, 1))


def conv2d_on_blocks(x: Tensor, weight: Tensor, bias: Tensor | None, pad: int) -> Tensor:
    """conv2d(x, weight, bias, stride=2, padding=pad) for even H and W, as a stride-1 convolution on 2 x 2 blocks.

    Row i of the output reads rows 2i - pad ... of the input: `front` zero rows make that start even, `back` zero rows
    make the kernel even, and then it reads whole blocks. Channels are filled up to 16 for the tensor cores.
    """
    out, channels, kernel, _ = weight.shape
    front = pad % 2
    back = (kernel + front) % 2
    blocks = (kernel + front + back) // 2
    before = (pad + front) // 2
    after = blocks - 1 - before
    b, _, h, w = x.shape
    fill = -(4 * channels) % 16
    x = F.pad(x, (2 * before, 2 * after, 2 * before, 2 * after))
    rows, columns = h // 2 + before + after, w // 2 + before + after
    # [B, C, rows, 2, columns, 2] -> [B, rows, columns, (2, 2, C)]: the memory order of channels_last
    x = x.reshape(b, channels, rows, 2, columns, 2).permute(0, 2, 4, 3, 5, 1).reshape(b, rows, columns, 4 * channels)
    x = F.pad(x, (0, fill)).permute(0, 3, 1, 2)
    kernels = F.pad(weight, (front, back, front, back)).reshape(out, channels, blocks, 2, blocks, 2)
    kernels = kernels.permute(0, 2, 4, 3, 5, 1).reshape(out, blocks, blocks, 4 * channels)
    return F.conv2d(x, F.pad(kernels, (0, fill)).permute(0, 3, 1, 2), bias)
