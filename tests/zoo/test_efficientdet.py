"""EfficientDet D0 to D7x: published parameters and FLOPs, key map, anchors, and what grows from member to member."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from torso.models.detector import Detector
from torso.parts import find
from torso.summary import summarise
from torso.types import Images
from torso.zoo.efficientdet import effdet_to_torso

# parameters in M and FLOPs in G, table 2 of the paper; 90 outputs, as the published weights have
PUBLISHED = {
    "d0": ("3.9", "2.5"),
    "d1": ("6.6", "6.1"),
    "d2": ("8.1", "11"),
    "d3": ("12", "25"),
    "d4": ("21", "55"),
    "d5": ("34", "135"),
    "d6": ("52", "226"),
    "d7": ("52", "325"),
    "d7x": ("77", "410"),
}


class Elementwise(TorchDispatchMode):
    """What TensorFlow's profiler, to our reading, adds to convolutions: an operation an element, or as said.

    Biases, the product in x * sigmoid(x), gates, residual sums, means, k * k an element of a max-pooling; of a fusion
    of n maps n for the sum, and n products and n quotients where it is weighted. Norms, sigmoids and resizing are not
    counted there.
    """

    COUNTED = ("silu_", "silu", "mul", "mul_", "add", "add_")

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name, first = func.__name__.split(".")[0], out[0] if isinstance(out, tuple | list) else out
        if not isinstance(first, Tensor) or first.dim() != 4:
            return out
        if name == "convolution" and args[2] is not None:
            self.count["bias"] += first.numel()
        elif name.startswith("max_pool"):
            self.count["pool"] += first.numel() * args[1][0] ** 2
        elif name == "mean":
            self.count["mean"] += args[0].numel()
        elif name in self.COUNTED:
            self.count[name] += first.numel()
        elif name == "addcmul":
            self.count["fusion"] += 3 * first.numel()
        if name == "silu":  # once a node of the neck: the first map of its fusion
            self.count["first"] += first.numel()
        return out


def counted(name: str) -> tuple[Detector, float, float]:
    """The model, multiply-adds of its convolutions (G), and these with half an operation for each elementwise one."""
    with torch.device("meta"), torch.no_grad():
        model: Detector = find(f"efficientdet_{name}", "zoo")(num_classes=90).build().eval()
        height, width = model.input.size_hw
        images = Images(torch.zeros(1, 3, height, width), torch.zeros(1, 2), torch.zeros(1, 4))
        elementwise = Elementwise()
        with FlopCounterMode(display=False) as convolutions, elementwise:
            model.head(model.features(images), images)
    macs = convolutions.get_total_flops() / 2e9
    count = elementwise.count
    # weighted: the product of a first map is counted above, its sum and quotient are not; plain: n sums, n - 1 seen
    first = count["first"] * (1 if model.neck[0].weights.fusion == "sum" else 2)
    return model, macs, macs + (sum(count.values()) - count["first"] + first) / 2e9


def rounded(value: float, like: str) -> str:
    return f"{value:.{len(like.partition('.')[2])}f}"


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameters_and_flops(name: str) -> None:
    model, macs, profiled = counted(name)
    parameters, flops = PUBLISHED[name]
    assert rounded(sum(p.numel() for p in model.parameters()) / 1e6, parameters) == parameters
    assert rounded(profiled, flops) == flops
    assert 0.98 < macs / float(flops) < 1.01
    if name == "d0":
        assert sum(p.numel() for p in model.parameters()) == 3_880_067
        assert sum(p.numel() for p in model.neck.parameters()) == 196_281
        assert sum(p.numel() for p in model.backbone.parameters()) == 3_595_388


def test_what_show_prints() -> None:
    summary = summarise(find("efficientdet_d0", "zoo")(num_classes=90))
    assert summary.input_hw == (512, 512)
    assert summary.parameters == 3_880_067
    assert summary.flops / 2e9 == pytest.approx(2.492, abs=5e-4)
    assert [level.size_hw[0] for level in summary.stages[1].levels] == [64, 32, 16, 8, 4]
    assert summary.outputs["logits"] == (1, 49_104, 90)


def test_anchors_are_the_authors() -> None:
    """Centred in their cells; 1.4 by 0.7 sides where RetinaNet's would have the root of two and its inverse."""
    head = find("efficientdet", "heads")([_spec(s) for s in (8, 16, 32, 64, 128)], num_classes=2)
    priors = head.priors([(4, 4), (2, 2), (1, 1), (1, 1), (1, 1)], (32, 32))
    assert priors.centers_xy[0].tolist() == [4.0, 4.0]
    sides = [32.0 * 2 ** (k / 3) for k in range(3)]
    want = [[s * x, s * y] for x, y in ((1, 1), (1.4, 0.7), (0.7, 1.4)) for s in sides]
    torch.testing.assert_close(priors.sizes_wh[:9], torch.tensor(want))
    seventh = find("efficientdet_d7", "zoo")().get("head").get("priors")
    assert seventh.get("base_scale") == 5.0


def _spec(stride: int) -> Any:
    from torso.types import FeatureSpec

    return FeatureSpec(64, (stride, stride))


def test_only_weights_of_that_model_are_taken() -> None:
    with pytest.raises(ValueError, match=r"2 tensors are not of effdet's EfficientDet: nek\.0, class_net\.x"):
        effdet_to_torso({"nek.0": torch.zeros(1), "class_net.x": torch.zeros(1), "backbone.a": torch.zeros(1)})
    with pytest.raises(ValueError, match="9 anchors a location"):
        effdet_to_torso({"box_net.predict.conv_pw.bias": torch.zeros(24)})


def test_the_key_map_permutes_anchors_and_codes() -> None:
    theirs = torch.arange(36.0)  # scale, shape, (y, x, h, w)
    ours = effdet_to_torso({"box_net.predict.conv_pw.bias": theirs})["head.branches.0.box_out.pointwise.bias"]
    assert ours[:8].tolist() == [1, 0, 3, 2, 13, 12, 15, 14]  # shape 0: scale 0, scale 1
    assert sorted(ours.tolist()) == theirs.tolist()
    logits = effdet_to_torso({"class_net.predict.conv_pw.bias": torch.arange(18.0)})
    assert logits["head.branches.0.cls_out.pointwise.bias"][:6].tolist() == [0, 1, 6, 7, 12, 13]


def test_initial_scores_are_the_prior_probability() -> None:
    torch.manual_seed(0)
    head = find("efficientdet", "heads")([_spec(s) for s in (8, 16, 32)], num_classes=4, coarsest=32)
    maps = [torch.randn(2, 64, n, n) for n in (8, 4, 2)]
    raw = head(maps, Images(torch.zeros(2, 3, 64, 64), torch.full((2, 2), 64.0), torch.ones(2, 4)))
    assert math.log10(float(raw.logits.detach().sigmoid().mean())) == pytest.approx(-2, abs=0.2)
