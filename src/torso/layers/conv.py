"""Convolutions: with normalisation and activation chosen by name, and a backbone's first, on three channels."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torso.layers.batch_norm import BatchNorm2d

Norm = Literal["none", "bn", "bn_tf", "bn_yolo", "gn"]
Activation = Literal["none", "relu", "leaky_relu", "silu", "mish", "gelu", "hardswish"]


class ConvNormAct(nn.Module):
    """conv -> norm -> activation, "same" padding at odd kernels: [B, C, h, w] -> [B, C', ceil(h/s), ceil(w/s)].

    kernel: (height, width), or one number for both. bias: None means "only without a norm" (a norm has its own).
    On RGB at stride 2, a backbone's first, the convolution is a StemConv2d: the same function in a quicker form.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int | tuple[int, int] = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm: Norm = "none",
        activation: Activation = "none",
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        bias = norm == "none" if bias is None else bias
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2 * dilation, sides[1] // 2 * dilation)
        plain = sides[0] == sides[1] and sides[0] % 2 == 1 and dilation == groups == 1
        kind = StemConv2d if plain and in_channels == 3 and stride == 2 else nn.Conv2d
        self.conv = kind(in_channels, out_channels, sides, stride, padding, dilation=dilation, groups=groups, bias=bias)
        self.norm = make_norm(norm, out_channels)
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(x)))
        return x


def make_norm(name: Norm, channels: int) -> nn.Module:
    """A norm layer by name; "gn" has 32 groups, fewer where that would leave less than four channels a group.

    "bn_tf" is BatchNorm with the constants of TensorFlow's detectors (EfficientDet, SpineNet, NAS-FPN): eps 1e-3, and
    momentum 0.99 in their counting, which is 0.01 in torch's. "bn_yolo" has those of YOLOv5 and YOLOX: 1e-3 and 0.03.
    A group of one channel has nothing to normalise over on a 1x1 map, which the coarsest level of a small image is.
    """
    if name == "bn":
        return BatchNorm2d(channels)
    if name == "bn_tf":
        return BatchNorm2d(channels, eps=1e-3, momentum=0.01)
    if name == "bn_yolo":
        return BatchNorm2d(channels, eps=1e-3, momentum=0.03)
    if name == "gn":
        groups = next((g for g in (32, 16, 8, 4, 2) if channels % g == 0 and channels >= 4 * g), 1)
        return GroupNorm(groups, channels)
    return nn.Identity()


def make_activation(name: Activation) -> nn.Module:
    """An activation layer by name; leaky_relu has darknet's slope 0.1, not torch's 0.01."""
    if name == "leaky_relu":
        return nn.LeakyReLU(0.1, inplace=True)
    layers: dict[str, type[nn.Module]] = {
        "relu": nn.ReLU,
        "silu": nn.SiLU,
        "mish": nn.Mish,
        "hardswish": nn.Hardswish,
    }
    if name in layers:
        return layers[name](inplace=True)
    return nn.GELU() if name == "gelu" else nn.Identity()


class GroupNorm(nn.GroupNorm):
    """torch's group normalisation; compiled for CUDA in a form that keeps channels_last memory and the input's type.

    torch's decomposition flattens [C / G, H, W], which has no strides in channels_last, and autocast makes its output
    float32: compiled FCOS spent 10 of 63 ms a step in copies between the layouts (H200, 800x1344, batch 16).
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (x.is_cuda and torch.compiler.is_compiling()):
            return super().forward(x)  # in eager mode torch's one kernel beats six of ours
        return group_norm_channels_last(x, self.num_groups, self.weight, self.bias, self.eps)


def group_norm_channels_last(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Group normalisation of [B, C, h, w] with statistics in float32, computed in the order of channels_last memory."""
    b, c, h, w = x.shape
    grouped = x.permute(0, 2, 3, 1).reshape(b, h * w, groups, c // groups).float()
    variance, mean = torch.var_mean(grouped, dim=(1, 3), keepdim=True, correction=0)
    normal = ((grouped - mean) * torch.rsqrt(variance + eps)).reshape(b, h, w, c)
    return (normal * weight.float() + bias.float()).to(x.dtype).permute(0, 3, 1, 2)


class AlignedConv2d(nn.Conv2d):
    """A convolution with any number of output channels; on CUDA they are computed in a multiple of eight.

    The tensor cores' layouts want that; cuDNN pads and copies the maps otherwise (RetinaNet's 36 and 810 channels cost
    5 of 63 ms a step).
    """

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_cuda or self.out_channels % 8 == 0:
            return super().forward(x)
        return conv2d_aligned(x, self, multiple=8)


def conv2d_aligned(x: Tensor, conv: nn.Conv2d, multiple: int) -> Tensor:
    """conv(x), computed with zero weights up to a multiple of output channels and cut back."""
    missing = -conv.out_channels % multiple
    weight = F.pad(conv.weight, (0, 0, 0, 0, 0, 0, 0, missing)).to(memory_format=torch.channels_last)
    bias = None if conv.bias is None else F.pad(conv.bias, (0, missing))
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)[:, : conv.out_channels]


class StemConv2d(nn.Conv2d):
    """A stride-2 convolution of RGB images; compiled for CUDA it runs at stride 1 on blocks of 2 x 2 pixels.

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


def fits_stem(conv: nn.Module) -> bool:
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
