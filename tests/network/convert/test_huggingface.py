# SPDX-License-Identifier: Apache-2.0
"""Weights of the transformers library answer as they do there, from memory and from a folder."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    SegformerConfig,
    SegformerForImageClassification,
    SegformerForSemanticSegmentation,
    SwinConfig,
    SwinForImageClassification,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from config import UserError
from network.backbones import mit, swin
from network.backbones.deit import DeiT
from network.build import build_net
from network.convert import load_official, load_trunk, read_checkpoint
from network.convert.hub import HubFacts
from network.hub_arch import arch_of
from network.ops.resize import resize
from tests.network.convert.foreign import CLOSE, apart, lively
from transforms import normalize

CLASSES = 7
DEPTHS = (1, 2, 1, 1)
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def segformer(kind: Any = SegformerForSemanticSegmentation, **options: Any) -> nn.Module:
    return lively(kind(SegformerConfig(num_labels=CLASSES, depths=list(DEPTHS), **options)))


def swin_config(**options: Any) -> SwinConfig:
    return SwinConfig(num_labels=CLASSES, depths=list(DEPTHS), out_features=STAGES, **options)


def upernet(**options: Any) -> nn.Module:
    backbone = swin_config(**options)
    config = UperNetConfig(backbone_config=backbone, num_labels=CLASSES, hidden_size=512)
    return lively(UperNetForSemanticSegmentation(config))


def ours(arch: str, **options: Any) -> nn.Module:
    return build_net(arch, CLASSES, stage_depths=DEPTHS, **options).eval()


def logits(net: nn.Module, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """An image, and what the library answers, at the size of the image."""
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        answer = net(image).logits
    return image, resize(answer, size) if answer.ndim == 4 else answer


def answer(net: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        return net(image)["pred"]


@pytest.mark.parametrize("size", [(64, 96), (77, 101)])
def test_segformer_answers_the_same(size: tuple[int, int]) -> None:
    source, net = segformer(), ours("segformer.B0")
    report = load_official(net, source.state_dict())
    assert report.layout == "transformers"
    assert not (report.dropped or report.missing or report.unexpected)
    assert set(report.loaded) == set(net.state_dict())
    image, want = logits(source, size)
    assert apart(want, answer(net, image)) < CLOSE


def test_the_epsilons_of_the_library_go_with_the_weights(tmp_path: Path) -> None:
    source, net = segformer(), ours("segformer.B0")
    load_official(net, source.state_dict())
    assert {m.eps for m in net.modules() if isinstance(m, nn.LayerNorm)} == {1e-5}
    again = ours("segformer.B0")
    checkpoint = {"model_options": {}, "arch": "segformer.B0", "state_dict": net.state_dict()}
    load_official(again, checkpoint)
    assert {m.eps for m in again.modules() if isinstance(m, nn.LayerNorm)} == {1e-5}
    torch.save(checkpoint, tmp_path / "c.pth")
    trunk = ours("segformer.B0")
    load_trunk(trunk, str(tmp_path / "c.pth"))
    assert trunk.backbone.norm1.eps == 1e-5
    published = ours("segformer.B0")
    load_official(net, published.state_dict())
    assert net.state_dict().keys() == published.state_dict().keys()
    assert (net.backbone.norm1.eps, net.backbone.patch_embed1.norm.eps) == (1e-6, 1e-5)


def test_a_segformer_classifier_answers_the_same() -> None:
    source, net = segformer(SegformerForImageClassification), ours("segformer.B0_224")
    load_official(net, source.state_dict())
    image, want = logits(source, (61, 75))
    assert apart(want, answer(net, image)) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("window", [7, 12])
def test_upernet_answers_the_same_in_windows_of_any_side(window: int) -> None:
    source, net, again = upernet(window_size=window), ours("swin.T_UPerNet"), ours("swin.T_UPerNet")
    report = load_official(net, source.state_dict())
    assert all(name.startswith("backbone.swin.layernorm") for name in report.dropped)
    image, want = logits(source, (77, 101))
    assert apart(want, answer(net, image)) < CLOSE
    load_official(again, {"model_options": {}, "state_dict": net.state_dict()})
    assert torch.equal(answer(net, image), answer(again, image))


@pytest.mark.parametrize("size", [(224, 224), (230, 300)])
def test_a_swin_classifier_does_not_shift_maps_of_one_window(size: tuple[int, int]) -> None:
    source = lively(SwinForImageClassification(SwinConfig(num_labels=CLASSES, depths=[1, 1, 1, 2])))
    net = build_net("swin.T_224", CLASSES, stage_depths=(1, 1, 1, 2)).eval()
    load_official(net, source.state_dict())
    image, want = logits(copy.deepcopy(source), size)  # the library remembers small maps
    assert apart(want, answer(net, image)) < CLOSE
    again = build_net("swin.T_224", CLASSES, stage_depths=(1, 1, 1, 2)).eval()
    load_official(again, {"model_options": {}, "state_dict": net.state_dict()})
    assert torch.equal(answer(again, image), answer(net, image))


def test_a_distilled_deit_gives_the_same_maps(tmp_path: Path) -> None:
    sizes = {"hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 192}
    config = DeiTConfig(num_hidden_layers=3, image_size=64, num_labels=CLASSES, **sizes)
    source = lively(DeiTForImageClassificationWithTeacher(config))
    torch.save(source.state_dict(), tmp_path / "deit.pth")
    trunk = DeiT((4, 4), width=48, depth=3, heads=4)
    report = load_trunk(trunk, str(tmp_path / "deit.pth"))
    assert len(report.dropped) == 6 and not report.fresh
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        hidden = source.deit(image, output_hidden_states=True).hidden_states
        maps = trunk.eval()(image)
    for want, got in zip(hidden[1:3], maps[:2], strict=True):  # the last one is normed there
        assert apart(want[:, 2:].transpose(1, 2).unflatten(2, (4, 4)), got) < CLOSE


class Holder(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


def test_a_trunk_starts_from_a_classifier_and_from_a_whole_network(tmp_path: Path) -> None:
    for source, other in ((segformer(SegformerForImageClassification), "head."), (segformer(), "")):
        torch.save(source.state_dict(), tmp_path / "w.pth")
        net = ours("segformer.B0", pretrained=str(tmp_path / "w.pth"))
        assert net.trunk_report.layout == "transformers"
        assert all(name.startswith(other or "decode_head.") for name in net.trunk_report.dropped)
        whole = ours("segformer.B0_224" if other else "segformer.B0")
        load_official(whole, source.state_dict())
        for name, value in whole.backbone.state_dict().items():
            assert torch.equal(value, net.backbone.state_dict()[name])


def test_a_swin_classifier_starts_the_trunk_of_upernet(tmp_path: Path) -> None:
    source = lively(SwinForImageClassification(swin_config()))
    torch.save(source.state_dict(), tmp_path / "w.pth")
    net = ours("swin.T_UPerNet", pretrained=str(tmp_path / "w.pth"))
    assert {name.split(".")[0] for name in net.trunk_report.fresh} == {f"norm{n}" for n in range(4)}
    assert not any(block.still for layer in net.backbone.layers for block in layer.blocks)


def folder(path: Path, net: nn.Module, **changes: Any) -> Path:
    """A folder in hub format; `changes` go into the two JSON files, None removes a key."""
    net.save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    inputs = {"image_mean": list(normalize.MEAN), "image_std": list(normalize.STD)}
    for name, value in changes.items():
        target = inputs if name.startswith(("image_", "do_", "rescale")) else config
        target[name] = value
    (path / "config.json").write_text(json.dumps(config))
    (path / "preprocessor_config.json").write_text(json.dumps(inputs))
    return path


NAMES = ("road", "car", "traffic light", "sky", "pole", "wall", "bus")
NAMED = {"id2label": {str(number): name for number, name in enumerate(NAMES)}}


def test_a_folder_gives_weights_classes_and_normalisation(tmp_path: Path) -> None:
    source = segformer()
    path = folder(tmp_path / "hub", source, **NAMED)
    facts = read_checkpoint(path)["hub"]
    assert isinstance(facts, HubFacts)
    assert facts.class_names == NAMES and facts.num_classes == CLASSES
    assert (facts.mean, facts.std) == (normalize.MEAN, normalize.STD)
    assert arch_of(facts) == ("segformer.B0", {"stage_depths": DEPTHS})
    net = ours("segformer.B0")
    report = load_official(net, path)
    assert "SegformerForSemanticSegmentation; 7 classes (road, car, traffic light" in str(report)
    image, want = logits(source, (33, 47))
    assert apart(want, answer(net, image)) < CLOSE


@pytest.mark.slow
def test_a_folder_with_a_pickle_loads_as_a_trunk_too(tmp_path: Path) -> None:
    source = upernet()
    path = folder(tmp_path / "hub", source)
    (path / "model.safetensors").unlink()
    torch.save(source.state_dict(), path / "pytorch_model.bin")
    (path / "preprocessor_config.json").unlink()
    report = ours("swin.T_UPerNet", pretrained=str(path)).trunk_report
    assert "nothing of mean and std" in report.note and not report.fresh
    assert arch_of(read_checkpoint(path)["hub"])[0] == "swin.T_UPerNet"


def refused(net: nn.Module, path: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_official(net, path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["ViTForImageClassification"]}, "holds ViTForImageClassification, "),
        ({"architectures": None, "model_type": "bert"}, "holds bert, which is no network"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'; the Segformer"),
        ({"num_attention_heads": [1, 2, 4, 8]}, r"num_attention_heads is [1, 2, 4, 8]"),
        ({"image_mean": [0.5, 0.5]}, "image_mean must be three numbers"),
        ({"image_mean": [127.5] * 3}, "mean 127.5 is outside -10..10"),
        ({"image_std": [0, 0.5, 0.5]}, "std 0 is outside 0.0001..1000"),
        ({"image_mean": "x"}, "image_mean must be three numbers"),
        ({"image_mean": [float("nan")] * 3}, "image_mean must be three numbers, got [nan"),
        ({"image_std": [10**400, 1, 1]}, "image_std must be three numbers"),
        ({"rescale_factor": "x"}, "rescale_factor must be a number, got x"),
        ({"rescale_factor": None}, "rescale_factor must be a number"),
        ({"depths": None}, "entry depths is None, a list of 4 wanted"),
        ({"depths": "abcd"}, "entry depths is 'abcd'"),
        ({"hidden_sizes": [32, 64, 160, "x"]}, "entry hidden_sizes.3 is 'x'"),
        ({"do_normalize": False, "do_rescale": False}, "not scaled to 0..1"),
        ({"do_rescale": False}, "not scaled to 0..1"),
        ({"id2label": {"1": "a", "2": "b"}}, "must number the classes from 0 on"),
    ],
)
def test_what_the_program_would_do_otherwise_is_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = folder(tmp_path / "hub", segformer(), **changes)
    text = refused(ours("segformer.B0"), path)
    assert message in text and str(path) in text


def test_upernet_on_another_trunk_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path / "hub", upernet(), backbone_config={"model_type": "convnext"})
    assert "holds UPerNet on convnext" in refused(ours("swin.T_UPerNet"), path)


def test_folders_without_their_files_are_one_line(tmp_path: Path) -> None:
    net = ours("segformer.B0")
    assert "is a folder without config.json" in refused(net, tmp_path)
    (tmp_path / "config.json").write_text("[1")
    assert "config.json is no JSON file" in refused(net, tmp_path)
    (tmp_path / "config.json").write_text("[" * 100_000)
    assert "config.json is no JSON file" in refused(net, tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    assert "holds a list, not an object" in refused(net, tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["SegformerModel"]}')
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert "holds neither model.safetensors nor" in refused(net, tmp_path)
    assert "index.json points to several files" in refused(net, tmp_path)


def test_a_classifier_for_a_network_of_maps_is_one_line(tmp_path: Path) -> None:
    path = folder(tmp_path / "hub", segformer(SegformerForImageClassification))
    net = ours("segformer.B0")
    text = refused(net, path)
    assert "holds a trunk, as classifiers" in text and f"--pretrained {path}" in text
    text = refused(net, path, offer_partial=False)
    assert "needs the whole network" in text and "--pretrained" not in text


def test_other_classes_and_other_sizes_are_one_line(tmp_path: Path) -> None:
    path = folder(tmp_path / "hub", segformer())
    fewer = build_net("segformer.B0", 5, stage_depths=DEPTHS)
    text = refused(fewer, path, dataset="camvid", offer_partial=False)
    assert "the file has 7 classes, camvid has 5" in text
    assert "it holds another network" in refused(build_net("segformer.B1", CLASSES), path)
    assert "it holds another network" in refused(ours("swin.T_UPerNet"), path)


def test_classes_in_another_order_are_refused_where_they_would_be_scored(tmp_path: Path) -> None:
    path = folder(tmp_path / "hub", segformer(), **NAMED)
    net = ours("segformer.B0")
    spelled = ("Road", "car", "traffic-light", "sky", "pole", "brick wall", "bus")
    load_official(net, path, class_names=spelled, offer_partial=False)
    turned = ("car", "road", *NAMES[2:])
    text = refused(net, path, class_names=turned, offer_partial=False, dataset="streets")
    assert "classes of streets in another order: class 0 is road there, car here" in text
    report = load_official(net, path, class_names=turned)
    assert "class 0 is road there" in report.note


def test_every_published_size_is_known_by_its_folder() -> None:
    for name, size in mit.SIZES.items():
        config = {"hidden_sizes": size.channels, "depths": size.depths}
        config["decoder_hidden_size"] = size.head_width
        facts = HubFacts(architecture="SegformerForSemanticSegmentation", config=config)
        assert arch_of(facts) == (f"segformer.{name}", {})
        facts = HubFacts(architecture="SegformerForImageClassification", config=config)
        assert arch_of(facts) == (f"segformer.{name}_224", {})
    for name, shape in swin.SIZES.items():
        inner = {"embed_dim": shape.width, "depths": shape.depths}
        config = {"backbone_config": inner, "use_auxiliary_head": False}
        facts = HubFacts(architecture="UperNetForSemanticSegmentation", config=config)
        assert arch_of(facts) == (f"swin.{name}_UPerNet", {"aux_head": False})
    assert arch_of(HubFacts(architecture="DeiTModel", config={})) == ("", {})
    odd = HubFacts(architecture="SwinForImageClassification", config={"embed_dim": 100})
    assert arch_of(odd) == ("", {})
