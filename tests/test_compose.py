"""Composition by name: swaps keep what parts share, overrides reach every argument, mistakes are named at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from torso.compose import called, compose_model, create, finds_objects_only, from_yaml, swap_model, to_yaml
from torso.data.targets import Targets
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import Part, PartError, named, names, part
from torso.training.compose_recipe import check, compose_recipe, recipe_of_head
from torso.types import Images
from torso.zoo.retinanet import retinanet

TINY = {"backbone.name": "test_resnet", "neck.channels": "16", "head.channels": "16", "head.tower": "1"}


def test_no_swap_is_the_zoo_model() -> None:
    assert compose_model("retinanet", num_classes=3) == retinanet(num_classes=3)
    assert compose_model("rpn", num_classes=3) == compose_model("rpn")  # one class, whatever the data's


def test_only_a_class_agnostic_head_keeps_its_one_class() -> None:
    def faces(*, num_classes: int = 1) -> Part[Detector]:
        return retinanet(num_classes=num_classes)

    assert called(faces, None).get("head").get("num_classes") == 1
    assert called(faces, 5).get("head").get("num_classes") == 5
    assert finds_objects_only(compose_model("rpn"))
    assert not finds_objects_only(faces())


def test_a_timm_name_is_a_backbone_and_keeps_the_freezing() -> None:
    backbone = compose_model("retinanet", backbone="resnet18").get("backbone")
    assert (backbone.get("name"), backbone.get("frozen_stride"), backbone.get("frozen_norm")) == ("resnet18", 4, True)
    without_stride_4 = compose_model("retinanet", backbone="test_vit").get("backbone")
    assert without_stride_4.get("frozen_stride") == 0


@pytest.mark.parametrize(
    ("model", "backbone"),
    [("spinenet_190", "spinenet_49"), ("spinenet_49s", "spinenet_96"), ("yolov5n", "csp_l"), ("yolov5n", "darknet19")],
)
def test_a_backbone_by_name_has_the_size_of_its_name(model: str, backbone: str) -> None:
    trained = {"drop_path"}
    args = dict(compose_model(model, backbone=backbone).get("backbone").args)
    assert {k: v for k, v in args.items() if k not in trained} == dict(named(backbone, "backbones").args)


def test_a_backbone_keeps_its_own_activation_and_drops_paths_only_where_it_can() -> None:
    assert compose_model("yolov4", backbone="resnet50").get("backbone").get("activation") is None
    assert compose_model("efficientdet_d0", backbone="resnet50").get("backbone").get("drop_path") == 0.2
    assert compose_model("efficientdet_d0", backbone="vgg16").get("backbone").get("drop_path") == 0.0
    with pytest.raises(ValueError, match="set drop_path=0"):
        part("backbones.timm", name="vgg16", drop_path=0.1).build()


def test_widths_of_stages_and_strides_of_levels_are_not_carried_to_another_neck() -> None:
    for neck in ("csp_pan", "asff"):
        assert compose_model("centernet_points", neck=neck).get("neck").get("widths") is None
    model = compose_model("retinanet", neck=(part("necks.ssd_extra", strides=(2, 2, 2, 2)),))
    assert swap_model(model, neck="spp+pan").get("neck")[0].get("strides") == ()


def test_head_and_neck_keep_levels_widths_and_classes() -> None:
    model = compose_model("retinanet", num_classes=7, neck="pan", head="fcos", overrides={"neck.channels": "128"})
    assert model.get("neck").name == "necks.pan"
    assert (model.get("neck").get("channels"), model.get("neck").get("extra")) == (128, "conv_c5")
    assert (model.get("head").get("num_classes"), model.get("head").get("finest")) == (7, 8)


def test_tiles_and_pyramids_lie_over_the_policy_that_they_are_swapped_for() -> None:
    own = compose_model("retinanet").get("input")
    for name in ("tiles", "pyramid"):
        assert compose_model("retinanet", input=name).get("input").get("inner") == own
    alone = part("inputs.tiles", inner=None)
    assert compose_model("retinanet", input=alone).get("input") == alone
    tiled = compose_model("retinanet", input="tiles")
    assert swap_model(tiled, input="pyramid").get("input").get("inner") == own


@pytest.mark.parametrize("chain", ["fpn+pan", ["fpn", "pan"], [part(FPN, channels=32), "pan"]])
def test_necks_chain(chain: Any) -> None:
    necks = compose_model("retinanet", neck=chain).get("neck")
    assert [n.name for n in necks] == ["necks.fpn", "necks.pan"]
    changed = compose_model("retinanet", neck=chain, overrides={"neck.1.channels": "64"}).get("neck")
    assert changed[1].get("channels") == 64


def test_none_is_a_legal_neck() -> None:
    model = create("fcos", num_classes=2, neck="none", overrides={"backbone.name": "test_resnet", "head.channels": 8})
    assert len(model.neck) == 0
    assert [s.stride for s in model.backbone.out_specs][2:] == [8, 16, 32]
    images = Images(torch.zeros(1, 3, 64, 64), torch.full((1, 2), 64.0), torch.tensor([[1.0, 1, 0, 0]]))
    assert model(images).logits.shape == (1, 64 + 16 + 4, 2)


def test_a_threshold_of_hard_suppression_is_not_handed_to_soft() -> None:
    model = compose_model("rpn", suppression="soft_nms")
    assert model.get("suppression").get("max_detections") == 1000
    assert "iou_threshold" not in dict(model.get("suppression").args)
    assert compose_model("rpn", suppression="nms").get("suppression").get("iou_threshold") == 0.7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "retinanot"}, r"no model is called 'retinanot'; did you mean 'retinanet'"),
        ({"backbone": "resnet5"}, r"no timm model is called 'resnet5'; did you mean 'resnet50'"),
        ({"neck": "fpm"}, r"no neck is called 'fpm'; did you mean 'fpn'"),
        ({"neck": "fpn+pam"}, r"no neck is called 'pam'; did you mean"),
        ({"head": "retina"}, r"no head is called 'retina'; did you mean 'retinanet'"),
        ({"suppression": "nmss"}, r"did you mean .*'nms'"),
        ({"input": "letterbix"}, r"no input is called 'letterbix'; did you mean 'letterbox'"),
        ({"overrides": {"neck.chanels": "8"}}, r"FPN has no argument 'chanels'; did you mean 'channels'"),
        ({"overrides": {"neck.channels": "wide"}}, r"FPN\.channels: expected a whole number of at least 1, got 'wide'"),
        ({"overrides": {"head.norm": "bm"}}, r"expected one of .*'bn'.*got 'bm'"),
        ({"neck": "none", "overrides": {"neck.channels": "8"}}, r"neck is \(\), which has no argument 'channels'"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PartError, match=message):
        compose_model(**{"name": "retinanet", **arguments})


def test_the_criterion_of_a_head_comes_with_it() -> None:
    recipe = compose_recipe("retinanet", num_classes=3, head="atss")
    assert recipe.get("criterion") == compose_recipe("atss").get("criterion")
    assert recipe.get("model").get("neck").get("extra") == "conv_c5"
    kept = compose_recipe("retinanet", num_classes=3, head="dense")
    assert kept.get("criterion") == compose_recipe("retinanet").get("criterion")


@pytest.mark.parametrize(
    ("head", "paper", "base"),
    [
        ("tal", "tal_n", "fcos"),
        ("yolox", "yolox_s", "retinanet"),
        ("yolov5", "yolov5n", "yolov3"),
        ("ssd", "ssd300", "fcos"),
        ("efficientdet", "efficientdet_d0", "fcos"),
        ("grid", "yolov1", "fcos"),
        ("rpn", "rpn", "fcos"),
        ("faster_rcnn", "faster_rcnn", "retinanet"),
        ("centernet_points", "centernet_points", "fcos"),
        ("yolov3", "yolov3", "yolov5n"),
    ],
)
def test_a_head_brings_its_papers_criterion(head: str, paper: str, base: str) -> None:
    """Heads are told by the file that defines them: recipes are called by size, a head of code not as its paper."""
    own = compose_recipe(paper)
    assert own.get("model").get("head").name == f"heads.{head}"
    assert compose_recipe(base, head=head).get("criterion") == own.get("criterion")
    assert own.get("criterion") != compose_recipe(base).get("criterion")


def test_every_head_of_a_paper_has_a_recipe() -> None:
    assert {n for n in names("heads") if recipe_of_head(named(n, "heads")) is None} == {"dense"}
    assert recipe_of_head(named("yolov3", "heads")) == "yolov3"


def test_overrides_reach_recipe_model_and_criterion() -> None:
    recipe = compose_recipe(
        "fcos",
        overrides={
            "lr": "0.02",
            "epochs": "3",
            "neck.channels": "128",
            "model.head.tower": "2",
            "criterion.box.weight": "2",
            "assigner.radius": "1.5",
            "cls-loss.smoothing": "0.1",
        },
    )
    assert (recipe.get("lr"), recipe.get("epochs")) == (0.02, 3)
    assert recipe.get("model").get("neck").get("channels") == 128
    assert recipe.get("model").get("head").get("tower") == 2
    criterion = recipe.get("criterion")
    assert (criterion.get("box").get("weight"), criterion.get("assigner").get("radius")) == (2, 1.5)
    assert criterion.get("cls").get("loss").get("smoothing") == 0.1
    with pytest.raises(PartError, match="nothing in the recipe is called 'nek'; did you mean 'neck'"):
        compose_recipe("fcos", overrides={"nek.channels": "1"})


def test_a_random_backbone_is_not_frozen_unless_asked() -> None:
    assert compose_recipe("fcos").get("model").get("backbone").get("frozen_stride") == 0
    asked = compose_recipe("fcos", overrides={"backbone.frozen_stride": "4"}).get("model").get("backbone")
    assert (asked.get("frozen_stride"), asked.get("frozen_norm")) == (4, False)
    papers = compose_recipe("fcos", overrides={"pretrained": "hub"}).get("model").get("backbone")
    assert (papers.get("frozen_stride"), papers.get("frozen_norm")) == (4, True)


def _one_step(recipe: Part[Any]) -> dict[str, float]:
    built = recipe.build()
    model, criterion = built.model.build(), built.criterion.build()
    boxes = torch.tensor([[[10.0, 12, 40, 44], [5, 5, 60, 62]]])
    real = torch.ones(1, 2, dtype=torch.bool)
    targets = Targets(boxes, torch.tensor([[1, 0]]), real, ~real)
    images = Images(torch.rand(1, 3, 64, 64) * 255, torch.full((1, 2), 64.0), torch.tensor([[1.0, 1, 0, 0]]))
    terms = criterion(model, images, targets)
    torch.stack([t.total for t in terms.values()]).sum().backward()
    return {k: float(t.total.detach()) for k, t in terms.items()}


@pytest.mark.parametrize(
    ("name", "swaps"),
    [
        ("retinanet", {"assigner": "atss", "box_loss": "ciou"}),
        ("retinanet", {"assigner": "fcos"}),
        ("fcos", {"assigner": "atss", "box_loss": "giou"}),
        ("retinanet", {"head": "fcos"}),
        ("fcos", {"head": "retinanet", "cls_loss": "bce"}),
    ],
)
def test_swapped_recipes_give_finite_terms_that_learn_something(name: str, swaps: dict[str, str]) -> None:
    recipe = compose_recipe(name, num_classes=2, overrides=TINY, **swaps)
    check(recipe)
    terms = _one_step(recipe)
    assert all(0 < v < 1e6 for v in terms.values()), terms


def test_plain_codes_let_a_head_of_distributions_learn_how_sure_it_is() -> None:
    uncertain = {**TINY, "head.uncertainty": "true", "head.coder": "ltrb"}
    recipe = compose_recipe("gfl", num_classes=2, box_loss="kl", suppression="softer_nms", overrides=uncertain)
    assert check(recipe).head.has_uncertainty
    assert 0 < _one_step(recipe)["box"] < 1e6


def test_max_iou_on_a_head_with_centerness_says_what_to_do_and_that_works() -> None:
    with pytest.raises(PartError, match=r"set head\.quality='none' and criterion\.box\.weighting='none', or set"):
        check(compose_recipe("fcos", assigner="max_iou", overrides=TINY))
    remedy = {"head.quality": "none", "criterion.box.weighting": "none"}
    recipe = compose_recipe("fcos", num_classes=2, assigner="max_iou", overrides={**TINY, **remedy})
    check(recipe)
    assert _one_step(recipe)["box"] > 0


def test_a_sampler_is_put_in_exchanged_and_taken_out() -> None:
    mined = compose_recipe("retinanet", sampler="hard_negative", overrides={"sampler.ratio": "4"})
    assert mined.get("criterion").get("sampler").to_dict() == {"part": "samplers.hard_negative", "ratio": 4.0}
    check(mined)
    drawn = compose_recipe("ssd300", sampler="random")
    assert drawn.get("criterion").get("sampler").to_dict() == {"part": "samplers.random"}
    check(drawn)
    assert compose_recipe("ssd300", sampler="none").get("criterion").get("sampler") is None


@pytest.mark.parametrize(
    ("swaps", "message"),
    [
        ({"cls_loss": "cross_entropy"}, "loss for softmax scores, but the head has sigmoid scores"),
        ({"overrides": {"neck.finest": "64"}}, "FPN starts at stride 64, but the incoming levels have strides"),
        ({"overrides": {"head.finest": "4"}}, "needs a level of stride 4; the levels here have strides"),
        ({"backbone": "test_vit"}, r"FPN starts at stride 8, but the incoming levels have strides \[16\]"),
    ],
)
def test_what_cannot_learn_is_refused_before_training(swaps: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(compose_recipe("retinanet", **swaps))


@pytest.mark.parametrize(
    ("name", "swap", "message"),
    [
        ("retinanet", {"box_loss": "focal"}, "focal is no box_loss for .*set .*'ciou'.*'diou'.*'giou'.*'iou'"),
        ("retinanet", {"assigner": "gaussian"}, "gaussian is no assigner for .*'atss'.*'fcos'.*'max_iou'"),
        (
            "centernet_points",
            {"cls_loss": "focal"},
            "focal is no cls_loss for .*set criterion.cls_loss='gaussian_focal'$",
        ),
        (
            "centernet_points",
            {"assigner": "atss"},
            "wants the bump about each object's centre .*set criterion.assigner='gaussian'$",
        ),
        ("yolov1", {"assigner": "atss"}, "cells are responsible by construction.*: leave assigner out"),
        ("yolov1", {"box_loss": "giou"}, "one sum of squared errors.*: leave box_loss out"),
        ("faster_rcnn", {"assigner": "atss"}, "ATSSAssigner assigns cells of feature maps, but the second stage"),
        ("faster_rcnn", {"sampler": "none"}, "none is no sampler for .*set criterion.sampler='random'$"),
        (
            "faster_rcnn",
            {"sampler": "hard_negative"},
            "hard_negative is no sampler for .*set criterion.sampler='random'$",
        ),
        ("yolov1", {"sampler": "random"}, "every cell of YOLOv1 counts.*: leave sampler out"),
        ("centernet_points", {"sampler": "random"}, "every location of a heatmap counts.*: leave sampler out"),
    ],
)
def test_the_wrong_kind_is_refused_and_the_right_ones_named(name: str, swap: dict[str, str], message: str) -> None:
    with pytest.raises(PartError, match=message):
        check(compose_recipe(name, **swap))


@pytest.mark.parametrize(
    ("name", "assigner"), [("fcos", "simota"), ("atss", "simota"), ("gfl", "paa"), ("yolov2", "yolo_v3")]
)
def test_another_assigner_comes_with_its_own_numbers(name: str, assigner: str) -> None:
    """FCOS's radius of 0 is no radius of SimOTA's, ATSS's 9 candidates are not its 10."""
    assert compose_recipe(name, assigner=assigner).get("criterion").get("assigner") == named(assigner, "assigners")


def test_fcos_takes_simota_without_further_flags() -> None:
    check(compose_recipe("fcos", num_classes=2, assigner="simota", overrides=TINY))


def test_a_points_size_and_an_assigners_own_numbers_are_kept(tmp_path: Path) -> None:
    scaled = compose_recipe("atss", overrides={"assigner.point_scale": "4"})
    file = tmp_path / "scaled.yaml"
    file.write_text(to_yaml(scaled))
    for assigner in ("max_iou", "ssd", "paa"):
        swapped = compose_recipe(file, assigner=assigner).get("criterion").get("assigner")
        assert swapped == named(assigner, "assigners").with_args(point_scale=4.0)
    assert compose_recipe(file, assigner="atss").get("criterion") == scaled.get("criterion")


def test_a_loss_keeps_its_own_numbers_and_the_smoothing() -> None:
    assert dict(compose_recipe("rpn", box_loss="iou").get("criterion").get("box").get("loss").args) == {}
    smooth = (
        compose_recipe("retinanet", overrides={"cls_loss.smoothing": "0.1"}).get("criterion").get("cls").get("loss")
    )
    assert smooth.get("smoothing") == 0.1
    same = compose_recipe("retinanet", box_loss="smooth-l1").get("criterion").get("box").get("loss")
    assert same.get("beta") == 1 / 9


def test_the_second_stage_is_what_the_flags_of_a_two_stage_model_swap() -> None:
    recipe = compose_recipe("faster_rcnn", box_loss="giou", overrides={"criterion.first.box.loss.beta": "0.5"})
    check(recipe)
    assert recipe.get("criterion").get("box").get("loss").name == "losses.giou"
    assert recipe.get("criterion").get("first").get("box").get("loss").get("beta") == 0.5


@pytest.mark.parametrize("name", names("zoo"))
def test_recipes_survive_yaml(name: str, tmp_path: Path) -> None:
    recipe = compose_recipe(name, num_classes=3)
    check(recipe)
    assert from_yaml(to_yaml(recipe)) == recipe
    (tmp_path / "r.yaml").write_text(to_yaml(recipe))
    assert compose_recipe(tmp_path / "r.yaml") == recipe
    if name != "rpn":
        other = compose_recipe(str(tmp_path / "r.yaml"), num_classes=5, overrides={"lr": "0.5"})
        assert (other.get("lr"), other.get("model").get("head").get("num_classes")) == (0.5, 5)


def test_yaml_reads_numbers_as_people_write_them() -> None:
    recipe = from_yaml(to_yaml(compose_recipe("fcos")) + "weight_decay: 1e-4\ncompile: yes\n")
    assert (recipe.get("weight_decay"), recipe.get("compile")) == (1e-4, "yes")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("part: [1, 2\n", r"is no valid YAML: .*line 2"),
        ("- a\n- b\n", "must hold a part: .* it holds a list"),
        ("lr: 3\nmodel: 4\n", "holds a mapping with the keys 'lr', 'model'"),
        ("\n", "it holds nothing"),
        ("part: necks.fpn\nchannels: wide\n", r"FPN\.channels: expected a whole number of at least 1, got 'wide'"),
        ("part: necks.fpn\nchanels: 3\n", "did you mean 'channels'"),
        ("part: os:system\nx: 1\n", "was not allowed"),
        ("part: necks.fpn\nchannels: 3\nchannels: 4\n", "'channels' is given twice, line 3"),
        ("part: !!python/object/apply:os.system [ls]\n", "is no valid YAML"),
    ],
)
def test_wrong_yaml_gives_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(PartError, match=message) as caught:
        from_yaml(path)
    assert "wrong.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_yaml_file_must_exist_and_hold_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(PartError, match=r"no file at .*gone\.yaml"):
        compose_recipe("gone.yaml")
    (tmp_path / "neck.yaml").write_text("part: necks.fpn\n")
    with pytest.raises(PartError, match=r"holds a necks\.fpn, which is no recipe"):
        compose_recipe(tmp_path / "neck.yaml")
