# SPDX-License-Identifier: Apache-2.0
"""timm's models as trunks: their maps, their names, files of them, sizes that they are tied to."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from config import UserError
from network.backbones.timm_models import levels_of
from network.backbones.timm_trunk import TimmTrunk
from network.build import build_net
from network.convert import load_official, load_trunk
from tests.network.tiny import picture


def saved(model: torch.nn.Module, folder: Path, **more: torch.Tensor) -> str:
    path = folder / "weights.pth"
    torch.save({**model.state_dict(), **more}, path)
    return str(path)


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """`model` with weights that no other has."""
    generator = torch.Generator().manual_seed(3)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value += 0.02 * torch.rand(value.shape, generator=generator)
    return model


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto"])
@pytest.mark.parametrize("size", [(64, 96), (71, 133)])
def test_a_file_of_timm_loads_whole_and_gives_its_maps(
    name: str, size: tuple[int, int], tmp_path: Path
) -> None:
    theirs, trunk = moved(timm.create_model(name)), TimmTrunk(name)
    report = load_trunk(trunk, saved(theirs, tmp_path))
    assert set(report.loaded) == trunk.state_dict().keys()
    assert report.layout == "timm" and not report.fresh
    assert {*report.loaded, *report.dropped} == theirs.state_dict().keys()
    image = picture(*size)
    with torch.inference_mode():
        maps = trunk.eval()(image)
        if trunk.grid != (1, 1):  # patches: the image is padded, the maps cut
            height, width = (-(-side // 32) * 32 for side in size)
            image = torch.nn.functional.pad(image, (0, width - size[1], 0, height - size[0]))
        wanted = theirs.eval().forward_intermediates(image, intermediates_only=True)[-4:]
    for ours, full, stride in zip(maps, wanted, (4, 8, 16, 32), strict=True):
        shown = full[..., : -(-size[0] // stride), : -(-size[1] // stride)]
        assert ours.shape == shown.shape and float((ours - shown).abs().max()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def test_transformers_load_whole_too(name: str, tmp_path: Path) -> None:
    theirs, trunk = moved(timm.create_model(name)), TimmTrunk(name)
    report = load_trunk(trunk, saved(theirs, tmp_path))
    own = trunk.state_dict()
    assert all(torch.equal(own[key], theirs.state_dict()[key]) for key in report.loaded)
    assert set(own) - set(report.loaded) == set(report.fresh)
    assert all(key.startswith("pyramid.") for key in report.fresh)
    assert set(report.dropped) <= {"head.weight", "head.bias", "norm.weight", "norm.bias"} | {
        "head.fc.weight", "head.fc.bias"
    }  # fmt: skip


def test_positions_of_another_size_are_resampled(tmp_path: Path) -> None:
    theirs = moved(timm.create_model("vit_tiny_patch16_224"))
    trunk = TimmTrunk("vit_tiny_patch16_224", size=(96, 128))
    assert trunk.state_dict()["pos_embed"].shape[1] == 1 + 6 * 8
    load_trunk(trunk, saved(theirs, tmp_path))
    own, full = trunk.state_dict()["pos_embed"], theirs.state_dict()["pos_embed"]
    assert torch.equal(own[:, :1], full[:, :1])
    assert float((own[:, 1:].mean() - full[:, 1:].mean()).abs()) < 1e-3


def test_the_file_of_another_model_is_one_line(tmp_path: Path) -> None:
    path = saved(timm.create_model("resnet34"), tmp_path)
    with pytest.raises(
        UserError, match=rf"--pretrained {path} does not fit the trunk: .*not known"
    ):
        load_trunk(TimmTrunk("resnet18"), path)


def test_a_classifier_is_no_segmentation_network(tmp_path: Path) -> None:
    for name in ("resnet18", "convnext_atto"):
        path = saved(timm.create_model(name), tmp_path)
        with pytest.raises(UserError, match="holds a trunk, as classifiers of whole images do"):
            load_official(build_net("timm.SegFormer", 3, trunk=name), path)


def test_a_file_of_other_classes_names_both_numbers(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(build_net("timm.SegFormer", 3, trunk="resnet18").state_dict(), path)
    load_official(build_net("timm.SegFormer", 3, trunk="resnet18"), path)
    with pytest.raises(UserError, match="the file has 3 classes, the network has 5"):
        load_official(build_net("timm.SegFormer", 5, trunk="resnet18"), path)


def test_weights_have_the_names_of_timm_below_backbone() -> None:
    names = {key.removeprefix("backbone.") for key in _heads_less("resnet18")}
    assert names == {k for k in timm.create_model("resnet18").state_dict() if k[:3] != "fc."}


def _heads_less(trunk: str) -> list[str]:
    state = build_net("timm.SegFormer", 3, trunk=trunk).state_dict()
    return [key for key in state if key.startswith("backbone.")]


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("resnet18", 0.485, 0.229),
        ("mobilenetv4_conv_small_035", 0.5, 0.5),
        ("eva02_tiny_patch14_224", 0.48145466, 0.26862954),
    ],
)
def test_the_trunk_knows_by_what_its_images_are_normalised(
    name: str, mean: float, std: float
) -> None:
    trunk = TimmTrunk(name)
    assert (trunk.mean[0], trunk.std[0]) == (mean, std)


def test_a_stage_may_be_dilated() -> None:
    trunk = TimmTrunk("resnet18", output_stride=8)
    assert trunk.strides == (4, 8, 8, 8)
    assert [tuple(x.shape[2:]) for x in trunk(picture(64, 96))][1:] == [(8, 12)] * 3


def test_a_copy_has_parts_of_its_own() -> None:
    trunk = TimmTrunk("resnet18").eval()
    twin = copy.deepcopy(trunk)
    assert twin.state_dict().keys() == trunk.state_dict().keys()
    image, before = picture(64, 64), trunk(picture(64, 64))[0]
    with torch.no_grad():
        twin.get_parameter("conv1.weight").mul_(0)
    assert torch.equal(trunk(image)[0], before)
    assert not torch.equal(twin(image)[0], before)


def test_training_mode_reaches_the_model_itself() -> None:
    trunk = TimmTrunk("resnet18")
    assert not trunk.eval().model.training
    assert trunk.train().model.training


def tied() -> TimmTrunk:
    trunk = TimmTrunk("levit_128s").eval()
    assert trunk.tiled and trunk.grid == (224, 224)
    return trunk


@torch.inference_mode()
def test_a_model_of_one_size_sees_the_image_in_tiles() -> None:
    trunk, image = tied(), picture(224, 448)
    whole = trunk(image)[0]
    right = trunk(image[..., 224:])[0]
    assert torch.allclose(whole[..., 14:], right, atol=1e-5)
    moved_left = trunk(torch.cat([image[..., :224] + 1, image[..., 224:]], 3))[0]
    assert torch.allclose(moved_left[..., 14:], right, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "once", "twice"),
    [("resnet18", "conv1", "layer1.0"), ("vit_tiny_patch16_224", "patch_embed", "blocks.3")],
)
def test_checkpointing_rebuilds_the_stages_and_counts_once(
    name: str, once: str, twice: str
) -> None:
    calls = {once: 0, twice: 0}
    plain, trunk = TimmTrunk(name), TimmTrunk(name, grad_ckpt=True)
    trunk.load_state_dict(plain.state_dict())
    for part in calls:
        trunk.get_submodule(part).register_forward_pre_hook(
            lambda *_, part=part: calls.update({part: calls[part] + 1})
        )
    image = picture(64, 64, batch=2)
    for each in (plain, trunk):
        sum(x.square().mean() for x in each.train()(image)).backward()
    assert calls == {once: 1, twice: 2}
    for (key, mine), (_, theirs) in zip(
        trunk.state_dict().items(), plain.state_dict().items(), strict=True
    ):
        assert torch.allclose(mine.float(), theirs.float()), key
    for mine, theirs in zip(trunk.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-5)


def test_layers_are_counted_from_the_stem() -> None:
    numbers = TimmTrunk("vit_tiny_patch16_224").layer_numbers()
    assert (numbers["pos_embed"], numbers["blocks.0.norm1.weight"]) == (0, 1)
    assert (numbers["blocks.11.norm1.weight"], numbers["norm.weight"]) == (12, 12)
    assert numbers["pyramid.0.0.weight"] == 13


def test_a_model_without_maps_is_refused() -> None:
    model: Any = torch.nn.Linear(1, 1)
    with pytest.raises(UserError, match="--trunk linear: timm gives no feature maps of this model"):
        levels_of("linear", model)
