"""RoIAlign over a pyramid: equal to torchvision's operator a level, in values and gradients; levels by size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

from torso.kernels.roi import multi_level_roi_align, roi_levels

STRIDES = (4, 8, 16)


def _pyramid(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 5, -(-93 // s), -(-121 // s), generator=draw, dtype=torch.float64) for s in STRIDES]
    return [m.to(dtype).requires_grad_() for m in maps]


def _boxes(count: int = 40) -> Tensor:
    """Of 0.4 to 245 px, partly outside the image, and one of no extent."""
    draw = torch.Generator().manual_seed(1)
    corner = torch.rand(2, count, 2, generator=draw, dtype=torch.float64) * 140 - 20
    size = torch.exp(torch.rand(2, count, 2, generator=draw, dtype=torch.float64) * 6.4 - 0.9)
    boxes = torch.cat([corner, corner + size], dim=-1)
    boxes[1, 3] = 0
    return boxes


def _one_by_one(features: list[Tensor], boxes: Tensor, levels: Tensor, sampling: int, aligned: bool) -> Tensor:
    """The definition: each box by torchvision's operator on its own level."""
    rows = []
    for image in range(boxes.shape[0]):
        for box, level in zip(boxes[image], levels[image].tolist(), strict=True):
            roi = torch.cat([box.new_full((1,), image), box])[None]
            rows.append(roi_align(features[level], roi, 3, 1 / STRIDES[level], sampling, aligned))
    return torch.cat(rows).unflatten(0, boxes.shape[:2])


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [2, 1, 3, 0])
def test_values_and_gradients_are_those_of_the_operator(sampling: int, aligned: bool) -> None:
    features, boxes = _pyramid(), _boxes()
    levels = roi_levels(boxes, STRIDES, side=56)
    assert levels.unique().numel() == 3
    want = _one_by_one(features, boxes, levels, sampling, aligned)
    weight = torch.randn(want.shape, dtype=want.dtype, generator=torch.Generator().manual_seed(2))
    want_gradients = torch.autograd.grad((want * weight).sum(), features)
    got = multi_level_roi_align(features, STRIDES, boxes, levels, size=3, sampling=sampling, aligned=aligned)
    gradients = torch.autograd.grad((got * weight).sum(), features)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    for mine, other in zip(gradients, want_gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def test_a_ramp_gives_the_centres_of_the_bins() -> None:
    """Golden: at aligned pixels a map of x coordinates answers with x, whatever the level."""
    maps = [((torch.arange(64 // s) + 0.5) * s).expand(1, 1, 64 // s, 64 // s).contiguous() for s in STRIDES]
    boxes = torch.tensor([[[20.0, 20.0, 40.0, 30.0]]]).expand(1, 3, 4)
    out = multi_level_roi_align(maps, STRIDES, boxes, torch.tensor([[0, 1, 2]]), size=2)
    assert out.shape == (1, 3, 1, 2, 2)
    torch.testing.assert_close(out, torch.tensor([25.0, 35.0]).expand(1, 3, 1, 2, 2))


@pytest.mark.parametrize("sampling", [0, 2])
def test_half_precision_is_interpolated_in_float32(sampling: int) -> None:
    features, boxes = _pyramid(torch.bfloat16), _boxes()
    levels = roi_levels(boxes, STRIDES, side=56)
    got = multi_level_roi_align(features, STRIDES, boxes.float(), levels, size=7, sampling=sampling)
    want = multi_level_roi_align([f.double() for f in features], STRIDES, boxes, levels, size=7, sampling=sampling)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), want, rtol=2**-8, atol=1e-4)
    got.float().sum().backward()
    assert all(f.grad is not None and f.grad.dtype == torch.bfloat16 for f in features)


def test_levels_follow_the_stride_and_not_the_position() -> None:
    sides = torch.tensor([0.0, 50.0, 111.9, 112.0, 224.0, 447.9, 448.0, 5000.0])
    boxes = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], dim=1)
    assert roi_levels(boxes, (4, 8, 16, 32)).tolist() == [0, 0, 0, 1, 2, 2, 3, 3]
    assert roi_levels(boxes, (16, 32)).tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert roi_levels(boxes, (8, 32)).tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert roi_levels(boxes, (16,)).tolist() == [0] * 8


def test_levels_are_torchvisions() -> None:
    boxes = torch.cat([_boxes(500)[0] * 3, torch.tensor([[0.0, 0, 112 - 1e-5, 112]], dtype=torch.float64)])
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
    assert torch.equal(roi_levels(boxes, (4, 8, 16, 32)), LevelMapper(2, 5)([boxes]))


@pytest.mark.parametrize("sampling", [0, 2])
def test_compiles_whole(sampling: int) -> None:
    torch._dynamo.reset()
    features, boxes = [f.detach() for f in _pyramid(torch.float32)], _boxes().float()
    levels = roi_levels(boxes, STRIDES, side=56)

    def pool(features: list[Tensor], boxes: Tensor, levels: Tensor) -> Tensor:
        return multi_level_roi_align(features, STRIDES, boxes, levels, size=3, sampling=sampling)

    got = torch.compile(pool, backend="aot_eager", fullgraph=True)(features, boxes, levels)
    torch.testing.assert_close(got, pool(features, boxes, levels))


def test_kernels_in_the_interpreter() -> None:
    pytest.importorskip("triton", reason="Triton comes with torch on Linux only")
    tests = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(tests)}
    command = [sys.executable, "-m", "kernels.interpreted"]
    run = subprocess.run(command, env=environment, cwd=tests, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]


@pytest.mark.parametrize("sampling", [2, 0])
@pytest.mark.parametrize("name", ["_pool", "_spread"])
def test_kernels_compile_for_a_gpu_that_is_not_here(name: str, sampling: int) -> None:
    """The interpreter knows no types; the compiler does. Accesses are vectors and nothing detours by shared memory."""
    triton = pytest.importorskip("triton", reason="Triton comes with torch on Linux only")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from torso.kernels import roi_triton as _triton_roi

    kernel = getattr(_triton_roi, name)
    pooled = "*bf16" if name == "_pool" else "*fp32"
    types = [pooled, pooled, "*fp32", "*i64", *["i32"] * 5, "fp32"]
    constants = {"SIZE": 7, "SAMPLING": sampling, "ALIGNED": True, "BINS": 64, "CHANNELS": 64}
    arguments = dict(zip(kernel.arg_names, types + ["constexpr"] * len(constants), strict=True))
    positions = {(kernel.arg_names.index(key),): value for key, value in constants.items()}
    multiples_of_16 = {(i,): [["tt.divisibility", 16]] for i in (0, 1, 2, 3, 6)}
    source = ASTSource(kernel, arguments, positions, multiples_of_16)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8})
    ptx = compiled.asm["ptx"]
    assert "ld.global.v4.b32" in ptx
    assert ("add.v4.f32" in ptx) == (name == "_spread")
    assert "ld.shared" not in ptx


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("sampling", [2, 0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gpu_pools_what_the_cpu_pools(dtype: torch.dtype, sampling: int) -> None:
    boxes = _boxes().float()
    levels = roi_levels(boxes, STRIDES, side=56)
    answers = []
    for device in ("cpu", "cuda"):
        features = [f.detach().to(device).requires_grad_() for f in _pyramid(dtype)]
        out = multi_level_roi_align(features, STRIDES, boxes.to(device), levels.to(device), size=7, sampling=sampling)
        weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out)
        answers.append([out.detach().cpu(), *(g.cpu() for g in torch.autograd.grad((out * weight).sum(), features))])
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    for cpu, cuda in zip(*answers, strict=True):
        torch.testing.assert_close(cuda, cpu, **tolerance)
