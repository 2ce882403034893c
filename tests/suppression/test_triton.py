"""The Triton kernels: their logic in the interpreter here, the kernels themselves on a GPU (pytest -m gpu)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from torso.geometry.overlaps import BoxOverlap
from torso.kernels.fuse import cluster_portable
from torso.kernels.keep import batched_keep, keep_portable
from torso.kernels.pick import pick_portable, pick_rows
from torso.kernels.rule import Comparison, Decay, Rule
from torso.parts import named, names
from torso.suppression._base import rank, scored
from torso.suppression.nms import NMS
from torso.suppression.soft_nms import SoftNMS
from torso.types import Candidates

from .cases import cases
from .reference import chain, random_candidates

pytest.importorskip("triton", reason="Triton comes with torch on Linux only")
LINEAR, GAUSSIAN = Decay("linear", 0.5, 1e-3), Decay("gaussian", 0.5, 1e-3)
RULES = (
    Rule("iou", 0.5, False),
    Rule("iou", 0.5, True),
    Rule("diou", 0.3, False),
    Rule("diou", 0.3, False, 0.6),
    Rule("giou", -0.1, False),
)


def test_kernels_in_the_interpreter(tmp_path: Path) -> None:
    tests = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(tests)}
    command = [sys.executable, "-m", "suppression.interpreted", str(tmp_path / "out.pt")]
    run = subprocess.run(command, env=environment, cwd=tests, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    answers = torch.load(tmp_path / "out.pt", weights_only=False)
    assert len(answers) > 30
    for (operation, name, *how), answer in answers.items():
        ranked, rows = rank(cases()[name]), scored(cases()[name], 0.0)
        if operation == "pick":
            order, scores = pick_portable(rows.boxes, rows.scores, rows.labels, Rule("iou", 0.3, True), *how, 20)
            torch.testing.assert_close(answer[1], scores, rtol=1e-5, atol=1e-6, msg=f"{name} {how}")
            assert torch.equal(answer[0], order), (name, how)
        elif operation == "fuse":
            test = Comparison(BoxOverlap(), how[0].threshold, how[0].inclusive)
            assert torch.equal(answer, cluster_portable(ranked, ranked.labels, test)), name
        else:
            labels, limit = (None, ranked.scores.shape[1]) if operation == "keep all" else (ranked.labels, 25)
            expected = keep_portable(ranked.boxes, ranked.scores > 0, labels, (how or RULES)[0], limit)
            assert torch.equal(answer, expected), (operation, name, how)


INT, FLOAT, INTS, FLOATS, BYTES = "i32", "fp32", "*i64", "*fp32", "*u8"
KERNELS = {
    "_pairs_to_bits": (
        [FLOATS, INTS, INTS, INT, INT, FLOAT],
        {"HAS_LABELS": True, "INCLUSIVE": False, "KIND": "diou", "BETA": 1.0, "WORD": 64},
    ),
    "_walk_rows": ([INTS, BYTES, BYTES, INT, INT, INT], {"WORD": 64, "WIDTH": 16, "ROWS": 64}),
    "_pick_image": (
        [FLOATS, FLOATS, INTS, INTS, FLOATS, INT, INT, FLOAT, FLOAT, FLOAT],
        {"HAS_LABELS": True, "INCLUSIVE": True, "GAUSSIAN": True, "KIND": "iou", "BETA": 1.0, "SIZE": 256},
    ),
    "_cluster_image": (
        [FLOATS, FLOATS, INTS, INTS, INT, FLOAT],
        {"HAS_LABELS": True, "INCLUSIVE": False, "KIND": "iou", "BETA": 1.0, "SIZE": 256},
    ),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_compile_for_a_gpu_that_is_not_here(name: str) -> None:
    """The interpreter knows no types; the compiler does. No fused multiply-add, no approximate division comes out."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from torso.kernels import fuse_triton as _triton_fuse
    from torso.kernels import keep_triton as _triton_keep
    from torso.kernels import pick_triton as _triton_pick

    homes = {"_pick_image": _triton_pick, "_cluster_image": _triton_fuse}
    kernel = getattr(homes.get(name, _triton_keep), name)
    types, constants = KERNELS[name]
    arguments = dict(zip(kernel.arg_names, types + ["constexpr"] * len(constants), strict=True))
    positions = {(kernel.arg_names.index(key),): value for key, value in constants.items()}
    source = ASTSource(kernel, arguments, positions)
    ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False}).asm["ptx"]
    assert "fma.rn" not in ptx
    assert "div.full" not in ptx


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def _to_gpu(candidates: Candidates) -> Candidates:
    return candidates.map(torch.Tensor.cuda)


def _assert_same(gpu: Candidates, cpu: Candidates, **tolerance: float) -> None:
    assert torch.equal(gpu.index.cpu(), cpu.index)
    assert torch.equal(gpu.boxes.cpu(), cpu.boxes)
    torch.testing.assert_close(gpu.scores.cpu(), cpu.scores, **tolerance)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("per_class", [True, False])
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("name", cases())
def test_gpu_keeps_what_the_cpu_keeps(name: str, rule: Rule, per_class: bool) -> None:
    overlap, how = BoxOverlap(kind=rule.overlap, beta=rule.beta), {"inclusive": rule.inclusive}
    nms = NMS(overlap=overlap, iou_threshold=rule.threshold, class_agnostic=not per_class, **how)
    _assert_same(nms(_to_gpu(cases()[name])), nms(cases()[name]))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(("rows", "limit"), [(0, 10), (1000, 100), (5000, 1000), (5000, 5000), (20_000, 300)])
def test_gpu_keeps_what_the_cpu_keeps_at_size(rows: int, limit: int) -> None:
    candidates = random_candidates(rows, 4, rows, 5, size=2000.0)
    nms = NMS(max_detections=limit)
    _assert_same(nms(_to_gpu(candidates)), nms(candidates))


@pytest.mark.gpu
@needs_gpu
def test_gpu_settles_long_chains_and_takes_images_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = chain(3000)
    ranked = rank(_to_gpu(candidates))
    keep = batched_keep(ranked.boxes, ranked.scores > 0, iou_threshold=0.5)
    assert keep.cpu().tolist() == [[row % 2 == 0 for row in range(3000)]]
    crowd = random_candidates(7, 5, 300, 3)
    together = NMS()(_to_gpu(crowd))
    monkeypatch.setattr("torso.kernels.keep_triton._MASK_BYTES", 1)
    _assert_same(NMS()(_to_gpu(crowd)), together.on_cpu())


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize("name", cases())
def test_gpu_picks_what_the_cpu_picks(name: str, method: str) -> None:
    soft = SoftNMS(method=method)  # type: ignore[arg-type]
    _assert_same(soft(_to_gpu(cases()[name])), soft(cases()[name]), rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("rows", [0, 1000, 5000, 9000])
def test_gpu_picks_what_the_cpu_picks_at_size(rows: int) -> None:
    candidates = random_candidates(rows, 2, rows, 3, size=2000.0)
    for decay in (LINEAR, GAUSSIAN):
        arguments = {"rule": Rule("iou", 0.3, True), "decay": decay, "max_picks": 50}
        gpu = _to_gpu(candidates)
        _, scores = pick_rows(gpu.boxes, gpu.scores, gpu.labels, **arguments)  # type: ignore[arg-type]
        _, expected = pick_rows(candidates.boxes, candidates.scores, candidates.labels, **arguments)  # type: ignore[arg-type]
        torch.testing.assert_close(scores.cpu(), expected, rtol=1e-4, atol=1e-6)


BY_SUMS = ("matrix_nms", "weighted_fusion", "softer_nms")


def _unlike(name: str) -> Candidates:
    """The case with a variance of each side, and without equal scores, of which any may come first."""
    candidates = cases()[name]
    noise = torch.rand(candidates.boxes.shape, generator=torch.Generator().manual_seed(5))
    apart = torch.linspace(0, 1e-2, candidates.scores.shape[1])
    scores = torch.where(candidates.scores > 0, candidates.scores * 0.9 + apart, 0.0)
    return candidates._replace(scores=scores, variance=0.5 + 4 * noise)


def _assert_alike(found: Candidates, expected: Candidates) -> None:
    """The same rows, whatever the order of those whose scores rounding may exchange."""
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
    for image in range(len(expected.scores)):
        one, other = (x.index[image][x.scores[image] > 0].sort() for x in (found, expected))
        assert torch.equal(one.values, other.values)
        for name, near in (("boxes", 1e-2), ("scores", 1e-6), ("labels", 0.0), ("variance", 1e-3)):
            ours, theirs = getattr(found, name), getattr(expected, name)
            assert (ours is None) == (theirs is None)
            if ours is not None:
                ours, theirs = ours[image][one.indices], theirs[image][other.indices]
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=near, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("how", BY_SUMS)
@pytest.mark.parametrize("name", cases())
def test_rows_come_in_any_order(name: str, how: str) -> None:
    """And the next test's measure lets pass what is alike."""
    candidates, suppression = _unlike(name), named(how, "suppression").build()
    order = torch.randperm(candidates.scores.shape[1], generator=torch.Generator().manual_seed(6))
    turned = candidates.map(lambda x: x[:, order])
    _assert_alike(suppression(turned), suppression(candidates))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("how", BY_SUMS)
@pytest.mark.parametrize("name", cases())
def test_gpu_gives_what_the_cpu_gives(name: str, how: str) -> None:
    candidates, suppression = _unlike(name), named(how, "suppression").build()
    found = suppression(_to_gpu(candidates)).on_cpu()
    _assert_alike(found, suppression(candidates))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", names("suppression"))
def test_gpu_needs_no_synchronisation_compiles_and_is_captured(name: str) -> None:
    suppression = named(name, "suppression").build()
    candidates = _to_gpu(random_candidates(0, 4, 500, 3))
    expected = suppression(candidates)
    torch.cuda.set_sync_debug_mode("error")
    try:
        again = suppression(candidates)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    compiled = torch.compile(suppression.__call__, fullgraph=True)(candidates)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = suppression(candidates)
    graph.replay()
    for answer in (again, compiled, captured):
        torch.testing.assert_close(answer.scores, expected.scores)
        if name in ("nms", "diou_nms", "none"):  # elsewhere rounding may let two scores change places
            assert torch.equal(answer.index, expected.index)
