# SPDX-License-Identifier: Apache-2.0
"""A network sees images as its weights want them, and the same weights answer alike."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

from config import UserError
from network.backbones.trunk import Trunk
from network.build import build_net
from network.contract import Network
from network.convert import load_official, load_trunk, read_checkpoint
from network.convert.input_norm import input_facts
from network.encoder_classifier import EncoderClassifier
from network.inference import compiled, prepare_for_inference
from network.ops.resize import resize
from runtime.normalisation import IMAGENET, NAMED, Normalisation, parsed
from tests.network.convert.foreign import CLOSE, apart, lively
from tests.network.tiny import enliven, tiny_net
from transforms.normalize import to_tensor

HALF = NAMED["half"]
ODD = Normalisation((0.4, 0.5, 0.6), (0.2, 0.5, 0.3))


def pixels(height: int = 72, width: int = 101) -> np.ndarray:
    """A smooth random image, uint8."""
    rng = np.random.default_rng(3)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def normalised(image: np.ndarray, norm: Normalisation) -> Tensor:
    """(1, 3, H, W), written down once more, in float64 until the end."""
    values = image.astype(np.float64) / 255
    planes = (values - np.array(norm.mean)) / np.array(norm.std)
    return torch.from_numpy(planes.astype(np.float32)).permute(2, 0, 1)[None]


def twins(net: Network, norm: Normalisation) -> tuple[Network, Network]:
    """The same weights in a network that wants `norm`, and in one that takes what it gets."""
    own, plain = copy.deepcopy(net).eval(), net.eval()
    own.take_input_norm(norm)
    plain.take_input_norm(IMAGENET)
    return own, plain


TINY = (  # one for each way that images enter a network
    "ocrnet.HRNet", "ocrnet.HRNet_Mscale", "mscale.DeepV3R50", "mscale.DeepV3W38Fuse",
    "mscale2.HRNet", "attnscale.DeepV3R50", "deepv3.DeepV3R50", "deepv3.DeepV3PlusSRNX50",
)  # fmt: skip
WHOLE = (
    "hanet.DeepShuffleNetV3PlusD_HANet_OS32", "hila.B0_S34", "hrvit.b1_224", "hrvit.b1_SegFormer",
    "segformer.B0", "segformer.B0_224", "swin.T_UPerNet", "unept.R50",
)  # fmt: skip


LIGHT = ("ocrnet.HRNet", "ocrnet.HRNet_Mscale", "segformer.B0", "hila.B0_S34", "segformer.B0_224")
EVERY = [
    pytest.param(arch, marks=() if arch in LIGHT else pytest.mark.slow) for arch in (*TINY, *WHOLE)
]


@pytest.mark.parametrize("arch", EVERY)
@torch.no_grad()
def test_every_kind_of_network_changes_its_inputs_once(arch: str) -> None:
    if arch in TINY:
        net = tiny_net(arch)
    else:
        net = build_net(arch, 3)
        enliven(net)
    own, plain = twins(net, ODD)
    image = pixels()
    want = plain(normalised(image, ODD))["pred"]
    got = own(to_tensor(image)[None])["pred"]
    other = plain(to_tensor(image)[None])["pred"]
    assert apart(want, got) < CLOSE
    assert apart(want, other) > 10 * CLOSE


@pytest.mark.parametrize("arch", ["ocrnet.HRNet_Mscale", "mscale.DeepV3W38Fuse"])
def test_training_and_the_maps_of_single_scales_see_the_same(arch: str) -> None:
    own, plain = twins(tiny_net(arch), HALF)
    image = pixels(64, 64)
    with torch.no_grad():
        want = plain(normalised(image, HALF), return_all=True)
        got = own(to_tensor(image)[None], return_all=True)
    assert want.keys() == got.keys()
    assert max(apart(want[key], got[key]) for key in want) < CLOSE
    inputs = to_tensor(image)[None].requires_grad_()
    own(inputs)["pred"].sum().backward()
    ours = normalised(image, HALF).requires_grad_()
    plain(ours)["pred"].sum().backward()
    assert inputs.grad is not None and ours.grad is not None
    scale = torch.tensor(IMAGENET.std).view(3, 1, 1) / 0.5
    assert apart(ours.grad * scale, inputs.grad) < CLOSE


def test_images_in_imagenets_way_are_not_touched() -> None:
    net = tiny_net("ocrnet.HRNet_Mscale")
    names = set(net.state_dict())
    image = to_tensor(pixels())[None]
    assert net.net.own_inputs(image) is image
    net.take_input_norm(HALF)
    assert net.net.own_inputs(image) is not image
    assert apart(normalised(pixels(), HALF), net.net.own_inputs(image)) < 1e-6
    assert set(net.state_dict()) == names and net.trunk.input_norm == HALF
    net.take_input_norm(IMAGENET)
    assert net.net.own_inputs(image) is image and net.input_norm == IMAGENET


def test_padding_of_the_data_stays_the_colour_that_it_was() -> None:
    net = tiny_net("ocrnet.HRNet")
    net.take_input_norm(HALF)
    padded = to_tensor(np.zeros((4, 4, 3), np.uint8), valid=(2, 4))
    pads = net.own_inputs(padded[None])[0, :, 2:]
    colour = torch.tensor(HALF.mean) + pads.mean(dim=(1, 2)) * torch.tensor(HALF.std)
    assert torch.allclose(colour, torch.tensor(IMAGENET.mean), atol=1e-6)


@pytest.mark.slow
@torch.no_grad()
def test_weights_folded_by_hand_and_weights_that_say_it_give_the_same_logits(
    tmp_path: Path,
) -> None:
    """The layer that sees the image, 4x4 without padding, can take over the normalisation."""
    torch.manual_seed(0)
    options = {"stage_depths": (1, 1, 1, 1)}
    net = lively(build_net("swin.T_UPerNet", 3, **options))
    said = build_net("swin.T_UPerNet", 3, **options).eval()
    checkpoint = {"arch": "swin.T_UPerNet", "num_classes": 3, "model_options": {}, "dataset": "x"}
    checkpoint |= {"input_mean": list(ODD.mean), "input_std": list(ODD.std)}
    torch.save({**checkpoint, "state_dict": net.state_dict()}, tmp_path / "said.pth")
    load_official(said, tmp_path / "said.pth")
    folded = copy.deepcopy(net)
    layer = folded.backbone.patch_embed.proj
    mean, std = (torch.tensor(x, dtype=torch.float64).view(3, 1, 1) for x in IMAGENET)
    own_mean, own_std = (torch.tensor(x, dtype=torch.float64).view(3, 1, 1) for x in ODD)
    weight = layer.weight.double()
    layer.bias += (weight * (mean - own_mean) / own_std).sum(dim=(1, 2, 3)).float()
    layer.weight.copy_(weight * std / own_std)
    image = to_tensor(pixels(64, 96))[None]
    want = folded(image)["pred"]
    assert apart(want, said(image)["pred"]) < CLOSE
    assert apart(want, net(image)["pred"]) > 10 * CLOSE


def hub_folder(path: Path, **inputs: Any) -> tuple[Path, nn.Module]:
    """A SegFormer of transformers, and the folder that its library writes."""
    config = SegformerConfig(num_labels=7, depths=[1, 1, 1, 1])
    source = lively(SegformerForSemanticSegmentation(config))
    source.save_pretrained(path)
    SegformerImageProcessor(do_resize=False, **inputs).save_pretrained(path)
    if not (path / "preprocessor_config.json").exists():
        tree = json.loads((path / "processor_config.json").read_text())["image_processor"]
        (path / "preprocessor_config.json").write_text(json.dumps(tree))
    return path, source


@pytest.mark.parametrize(
    "inputs",
    [
        {"image_mean": [0.5] * 3, "image_std": [0.5] * 3},
        {"do_normalize": False},
        {"image_mean": list(NAMED["clip"].mean), "image_std": list(NAMED["clip"].std)},
    ],
)
@torch.no_grad()
def test_a_folder_of_transformers_answers_as_processor_and_model_do_there(
    inputs: dict[str, Any], tmp_path: Path
) -> None:
    path, source = hub_folder(tmp_path / "hub", **inputs)
    net = build_net("segformer.B0", 7, stage_depths=(1, 1, 1, 1)).eval()
    load_official(net, path)
    image = pixels(61, 87)
    batch = SegformerImageProcessor.from_pretrained(path)(
        Image.fromarray(image), return_tensors="pt"
    )
    want = resize(source(**batch).logits, image.shape[:2])
    assert apart(want, net(to_tensor(image)[None])["pred"]) < CLOSE
    assert net.input_norm != IMAGENET
    trunk = build_net("segformer.B0", 3, stage_depths=(1, 1, 1, 1), pretrained=str(path))
    assert trunk.input_norm == net.input_norm == trunk.trunk.input_norm


def test_checkpoints_keep_it_and_older_ones_are_imagenets(tmp_path: Path) -> None:
    net = tiny_net("ocrnet.HRNet_Mscale")
    net.take_input_norm(HALF)
    facts = {"arch": "ocrnet.HRNet_Mscale", "num_classes": 3, "dataset": "x", "model_options": {}}
    torch.save({**facts, **input_facts(net), "state_dict": net.state_dict()}, tmp_path / "new.pth")
    torch.save({**facts, "state_dict": net.state_dict()}, tmp_path / "old.pth")
    again = tiny_net("ocrnet.HRNet_Mscale", seed=1)
    load_official(again, tmp_path / "new.pth")
    assert again.input_norm == HALF
    load_official(again, tmp_path / "old.pth")
    assert again.input_norm == IMAGENET
    load_trunk(again, str(tmp_path / "new.pth"))
    assert again.input_norm == HALF
    load_official(again, net.state_dict())  # says nothing
    assert again.input_norm == HALF


def test_older_checkpoints_mean_what_the_trunk_states_by_itself(tmp_path: Path) -> None:
    options = {"trunk": "test_vit", "segattn_bot_ch": 8}
    net = build_net("timm.SegFormer_Mscale", 3, **options)
    facts = {"arch": "timm.SegFormer_Mscale", "num_classes": 3, "model_options": options}
    torch.save({**facts, "state_dict": net.state_dict()}, tmp_path / "old.pth")
    again = build_net("timm.SegFormer_Mscale", 3, **options)
    again.take_input_norm(IMAGENET)
    load_official(again, tmp_path / "old.pth")
    assert again.input_norm == net.input_norm == again.trunk.input_norm == HALF
    again.take_input_norm(IMAGENET)
    load_trunk(again, str(tmp_path / "old.pth"))
    assert again.input_norm == HALF


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"input_mean": [0.5] * 3}, "input_mean and input_std belong together"),
        (
            {"input_mean": [0.5] * 2, "input_std": [0.5] * 3},
            "entry input_mean is a list, a list of",
        ),
        ({"input_mean": [0.5] * 3, "input_std": [0.5, 0, 1]}, "entry input_std.1 is 0, a number"),
        ({"input_mean": ["a"] * 3, "input_std": [0.5] * 3}, "entry input_mean.0 is 'a'"),
        ({"input_mean": [float("nan")] * 3, "input_std": [0.5] * 3}, "entry input_mean.0 is nan"),
    ],
)
def test_damaged_entries_are_one_line(
    entries: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.pth"
    torch.save({"model_options": {}, **entries, "state_dict": {"x": torch.zeros(1)}}, path)
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_a_setting_says_it_for_files_that_do_not(tmp_path: Path) -> None:
    net = tiny_net("ocrnet.HRNet", input_norm="0.4,0.5,0.6/0.2,0.5,0.3")
    assert net.input_norm == ODD
    load_official(net, net.state_dict())
    assert net.input_norm == ODD
    torch.save({"model_options": {}, "state_dict": net.state_dict()}, tmp_path / "c.pth")
    with pytest.raises(UserError, match="leave it out, the file knows its own"):
        load_official(net, tmp_path / "c.pth")
    same = tiny_net("ocrnet.HRNet", input_norm="half")
    facts = {"model_options": {}, **input_facts(same)}
    load_official(same, {**facts, "state_dict": net.state_dict()})
    first = next(iter(net.state_dict()))
    assert torch.equal(same.state_dict()[first], net.state_dict()[first])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inception", "one of imagenet, half, unit, clip wanted, or means"),
        ("0.5,0.5,0.5", "one of imagenet"),
        ("0.5,0.5/0.5,0.5,0.5", "one of imagenet"),
        ("0.5,0.5,x/1,1,1", "one of imagenet"),
        ("127,127,127/1,1,1", "mean 127 is outside -10..10"),
        ("0,0,0/1,1,0", "std 0 is outside 0.0001..1000"),
        ("nan,0,0/1,1,1", "mean nan is outside"),
    ],
)
def test_other_texts_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match="--input_norm") as caught:
        build_net("basic.HRNet", 3, input_norm=text)
    assert message in str(caught.value)
    with pytest.raises(ValueError, match=message.split()[0]):
        parsed(text)


class Declared(Trunk):
    """A trunk whose class says what its weights want."""

    channels, strides = (3,), (1,)
    mean, std = HALF

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images]


def test_a_trunk_that_declares_it_is_served() -> None:
    net = EncoderClassifier(Declared(), 3)
    assert net.input_norm == HALF
    seen = []
    net.backbone.register_forward_hook(lambda *parts: seen.append(parts[1][0]))
    image = to_tensor(pixels())[None]
    net(image)
    assert apart(normalised(pixels(), HALF), seen[0]) < 1e-6


@torch.no_grad()
def test_it_survives_autocast_preparation_and_other_precisions() -> None:
    net = tiny_net("ocrnet.HRNet").eval()
    net.take_input_norm(HALF)
    image = to_tensor(pixels(64, 64))[None]
    want = net(image)["pred"]
    with torch.autocast("cpu", torch.bfloat16):
        assert net.own_inputs(image).dtype == torch.float32
    prepared = prepare_for_inference(net)
    assert apart(want, prepared(image)["pred"]) < CLOSE
    doubled = copy.deepcopy(net).double()
    assert apart(want, doubled(image.double())["pred"].float()) < CLOSE


@torch.no_grad()
def test_it_is_compiled_and_exported_with_the_network() -> None:
    net = EncoderClassifier(Declared(), 3).eval()
    image = to_tensor(pixels())[None]
    want = net(image)["pred"]
    program = torch.export.export(net, (image,))
    assert apart(want, program.module()(image)["pred"]) < CLOSE
    assert apart(want, compiled(net, backend="eager")(image)["pred"]) < CLOSE
