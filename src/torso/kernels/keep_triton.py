"""Greedy suppression on CUDA in two Triton kernels: all pairs to bits, then one program an image walks the rows.

64 rows make a block and one int64 word a row holds what it suppresses among 64 columns, so that 16 images x 5,000
boxes need 50 MB where a float matrix needs 1.6 GB. Nothing is read by the host: calls can be captured in a CUDA graph.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from torso.kernels.overlap_triton import on_device, overlap
from torso.kernels.rule import Rule

_WORD = 64
_MASK_BYTES = 256 * 2**20  # images go in turns where the bits of all would take more


def keep_triton(boxes: Tensor, valid: Tensor, labels: Tensor | None, rule: Rule, max_keep: int) -> Tensor:
    """The answer of batched_keep for CUDA tensors; boxes float32."""
    batch, rows = valid.shape
    keep = torch.zeros((batch, rows), dtype=torch.uint8, device=valid.device)
    if keep.numel() == 0:
        return keep.bool()
    boxes, valid = boxes.contiguous(), valid.contiguous().view(torch.uint8)
    labels = None if labels is None else labels.contiguous()
    words = triton.cdiv(rows, _WORD)
    turn = max(1, _MASK_BYTES // (rows * words * 8))
    with on_device(boxes):
        for start in range(0, batch, turn):
            part = slice(start, start + turn)
            own = None if labels is None else labels[part]
            _keep_images(boxes[part], valid[part], own, keep[part], rule, max_keep)
    return keep.view(torch.bool)


def _keep_images(boxes: Tensor, valid: Tensor, labels: Tensor | None, keep: Tensor, rule: Rule, max_keep: int) -> None:
    batch, rows = valid.shape
    words = triton.cdiv(rows, _WORD)
    mask = torch.empty((batch, rows, words), dtype=torch.int64, device=boxes.device)
    _pairs_to_bits[(words, words, batch)](
        boxes,
        boxes if labels is None else labels,
        mask,
        rows,
        words,
        rule.threshold,
        HAS_LABELS=labels is not None,
        INCLUSIVE=rule.inclusive,
        KIND=rule.overlap,
        BETA=rule.beta,
        WORD=_WORD,
        num_warps=4,
        enable_fp_fusion=False,
    )
    width = max(2, triton.next_power_of_2(words))
    _walk_rows[(batch,)](
        mask,
        valid,
        keep,
        rows,
        words,
        max_keep,
        WORD=_WORD,
        WIDTH=width,
        ROWS=max(1, min(_WORD, 4096 // width)),  # a tile of the bits that fits the registers
        num_warps=4,
    )


@triton.jit
def _either(a, b):  # type: ignore[no-untyped-def]
    return a | b


@triton.jit  # type: ignore[untyped-decorator]
def _pairs_to_bits(  # type: ignore[no-untyped-def]
    boxes_ptr,
    labels_ptr,
    mask_ptr,
    total,
    words,
    threshold,
    HAS_LABELS: tl.constexpr,
    INCLUSIVE: tl.constexpr,
    KIND: tl.constexpr,
    BETA: tl.constexpr,
    WORD: tl.constexpr,
):
    """Word w of row i: bit j says that row i, if kept, suppresses row 64 w + j. Nothing left of the diagonal."""
    block, word = tl.program_id(0), tl.program_id(1)
    image = tl.program_id(2).to(tl.int64)
    if word >= block:
        rows, columns = block * WORD + tl.arange(0, WORD), word * WORD + tl.arange(0, WORD)
        a = boxes_ptr + (image * total + rows[:, None]) * 4
        b = boxes_ptr + (image * total + columns[None, :]) * 4
        a_in, b_in = rows[:, None] < total, columns[None, :] < total
        measure = overlap(
            tl.load(a, mask=a_in, other=0.0),
            tl.load(a + 1, mask=a_in, other=0.0),
            tl.load(a + 2, mask=a_in, other=0.0),
            tl.load(a + 3, mask=a_in, other=0.0),
            tl.load(b, mask=b_in, other=0.0),
            tl.load(b + 1, mask=b_in, other=0.0),
            tl.load(b + 2, mask=b_in, other=0.0),
            tl.load(b + 3, mask=b_in, other=0.0),
            KIND,
            BETA,
        )
        hit = measure >= threshold if INCLUSIVE else measure > threshold
        hit = hit & (columns[None, :] > rows[:, None])
        if HAS_LABELS:
            a_label = tl.load(labels_ptr + image * total + rows[:, None], mask=a_in, other=0)
            b_label = tl.load(labels_ptr + image * total + columns[None, :], mask=b_in, other=0)
            hit = hit & (a_label == b_label)
        bits = tl.sum(hit.to(tl.int64) << tl.arange(0, WORD)[None, :].to(tl.int64), axis=1)
        tl.store(mask_ptr + (image * total + rows) * words + word, bits, mask=rows < total)


@triton.jit  # type: ignore[untyped-decorator]
def _walk_rows(  # type: ignore[no-untyped-def]
    mask_ptr,
    valid_ptr,
    keep_ptr,
    total,
    words,
    max_keep,
    WORD: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """One image, block by block in score order; what is removed so far stays in registers as WIDTH words."""
    image = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, WORD)
    bit = tl.full((WORD,), 1, tl.int64) << lanes.to(tl.int64)
    columns = tl.arange(0, WIDTH)
    removed = tl.zeros((WIDTH,), tl.int64)
    kept = tl.full((), 0, tl.int32)
    block = tl.full((), 0, tl.int32)
    while (block < words) & (kept < max_keep):
        rows = block * WORD + lanes
        inside = rows < total
        valid = tl.load(valid_ptr + image * total + rows, mask=inside, other=0) != 0
        own = tl.load(mask_ptr + (image * total + rows) * words + block, mask=inside, other=0)
        before = tl.sum(tl.where(columns == block, removed, 0), axis=0)
        standing = tl.sum(tl.where(valid, bit, 0), axis=0) & ~before
        # Kept rows are the fixed point of "standing and not suppressed by a kept row"; each round decides a link of
        # every chain, so a block takes 64 rounds at most and two or three as a rule.
        chosen, last = standing, ~standing
        while chosen != last:
            last = chosen
            chosen = standing & ~tl.reduce(tl.where((last & bit) != 0, own, 0), 0, _either)
        taken = (chosen & bit) != 0
        taken = taken & (tl.cumsum(taken.to(tl.int32), axis=0) <= max_keep - kept)
        tl.store(keep_ptr + image * total + rows, taken.to(tl.uint8), mask=inside)
        kept += tl.sum(taken.to(tl.int32), axis=0)
        for first in range(0, WORD, ROWS):
            row = first + tl.arange(0, ROWS)
            suppressing = ((chosen >> row.to(tl.int64)) & 1) != 0
            later = (columns > block) & (columns < words)
            tile = mask_ptr + (image * total + block * WORD + row)[:, None] * words + columns[None, :]
            removed = removed | tl.reduce(
                tl.load(tile, mask=suppressing[:, None] & later[None, :], other=0), 0, _either
            )
        block += 1
