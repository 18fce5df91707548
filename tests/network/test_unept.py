# SPDX-License-Identifier: Apache-2.0
"""UN-EPT: any size, images that do not see each other, weights of files, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from config import ModelConfig, UserError
from engine.predict import slide, whole
from network import unept
from network.build import build_net
from network.convert import load_official, load_trunk
from network.heads.deformable import cell_centres
from network.inference import prepare_for_inference
from tests.network.tiny import picture
from tests.network.tiny_unept import NUM_CLASSES, tiny

TRUNKS = ("R50", "DeiT")


@pytest.mark.parametrize("trunk", TRUNKS)
@torch.inference_mode()
def test_any_size_from_32_gives_scores_at_the_size_of_the_input(trunk: str) -> None:
    outputs = tiny(trunk).eval()(picture(33, 71))
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {
        "pred": (1, NUM_CLASSES, 33, 71)
    }


@pytest.mark.parametrize("trunk", TRUNKS)
def test_training_gives_boundary_logits_and_reaches_every_parameter(trunk: str) -> None:
    net = tiny(trunk, trains_boundary=True).train()
    outputs = net(picture(48, 72, batch=2))
    assert outputs["mask"].shape == (2, 2, 6, 9) and outputs["dir"].shape == (2, 8, 6, 9)
    sum(value.square().mean() for value in outputs.values()).backward()
    assert [name for name, item in net.named_parameters() if item.grad is None] == []
    assert all(bool(torch.isfinite(item.grad).all()) for item in net.parameters())


def test_without_boundary_supervision_no_trained_parameter_lacks_a_gradient() -> None:
    net = tiny().train()
    outputs = net(picture(48, 72, batch=2))
    assert set(outputs) == {"pred"}
    outputs["pred"].square().mean().backward()
    assert not [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]


@torch.inference_mode()
def test_all_outputs_are_there_in_evaluation_on_demand() -> None:
    net = tiny().eval()
    assert set(net(picture(), return_all=True)) == {"pred", "mask", "dir"}
    assert torch.equal(net(picture(), return_all=True)["pred"], net(picture())["pred"])


@torch.inference_mode()
def test_a_ragged_picture_is_the_padded_one_cut_back() -> None:
    net, image = tiny().eval(), picture(50, 70)
    whole = torch.zeros(1, 3, 64, 80)
    whole[..., :50, :70] = image
    torch.testing.assert_close(net(image)["pred"], net(whole)["pred"][..., :50, :70])


@torch.inference_mode()
def test_maps_of_a_ragged_picture_have_a_cell_for_every_part() -> None:
    maps = tiny().eval().maps(picture(50, 70))  # as the multi-scale form asks
    assert maps.logits.shape == (1, NUM_CLASSES, 7, 9) and maps.feats.shape == (1, 16, 7, 9)


def change_by_company(net: nn.Module) -> float:
    """How much the scores of an image change with its companion in the batch."""
    first, second, third = (picture(64, 64, seed=seed) for seed in range(3))
    pairs = [net(torch.cat([first, other]))["pred"][0] for other in (second, third)]
    return float((pairs[0] - pairs[1]).detach().abs().max())


@pytest.mark.parametrize("mix_batch", ["never", "training", "always"])
def test_pictures_of_a_batch_are_alone_unless_asked(mix_batch: str) -> None:
    net = tiny(mix_batch=mix_batch).eval()
    assert (change_by_company(net) > 1e-3) == (mix_batch == "always")
    for module in net.modules():  # nothing but the attention may tell training from evaluation
        if isinstance(module, nn.BatchNorm2d | nn.Dropout | nn.MultiheadAttention):
            module.eval()
    net.training = True
    assert (change_by_company(net) > 1e-3) == (mix_batch != "never")


@torch.inference_mode()
def test_one_picture_gets_the_same_scores_either_way() -> None:
    alone, mixed = (tiny(mix_batch=name).eval() for name in ("never", "always"))
    torch.testing.assert_close(alone(picture())["pred"], mixed(picture())["pred"])


@torch.inference_mode()
def test_windows_are_seen_once_and_score_alike_in_any_batch() -> None:
    net, seen = tiny().eval(), []
    net.register_forward_hook(lambda module, inputs, outputs: seen.append(len(inputs[0])))
    image = picture(80, 112)
    one, many = (
        slide(whole(net), (64, 64), (32, 32), batch_windows=count)(image)["pred"]
        for count in (1, 4)
    )
    assert seen == [1] * 6 + [4, 2]  # two rows of three windows
    torch.testing.assert_close(one, many)


def test_query_vectors_follow_the_shape_of_the_picture() -> None:
    net = tiny()
    assert net.query_vectors((8, 8)) is net.query_embed.weight
    with torch.no_grad():
        rows = torch.arange(8.0)[:, None].expand(8, 8).flatten()
        net.query_embed.weight.copy_(rows[:, None].expand(-1, 16))
    resampled = net.query_vectors((4, 6)).view(4, 6, 16)
    want = torch.tensor([0.5, 2.5, 4.5, 6.5])[:, None, None].expand(4, 6, 16)
    torch.testing.assert_close(resampled, want)


def test_references_are_the_centres_of_the_true_grid() -> None:
    centres = cell_centres((2, 4), torch.zeros(1)).view(2, 4, 2)
    assert centres[1, 0].tolist() == [0.125, 0.75]


def test_the_gradient_of_a_single_picture_is_right() -> None:
    """Torch's batch norm mixes up a gradient in the layout of a sequence when it is alone."""
    gradients = []
    for copies in (1, 2):
        net = tiny().eval()
        net(picture(64, 64).repeat(copies, 1, 1, 1))["pred"].sum().backward()
        gradients.append(net.spatial_branch.convblock1.conv1.weight.grad / copies)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-4)


@torch.inference_mode()
def test_the_prepared_copy_gives_the_same_scores() -> None:
    net = tiny("R50").eval()
    want = net(picture())["pred"]
    got = prepare_for_inference(net)(picture())["pred"]
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4 * float(want.abs().max()))


@torch.inference_mode()
def test_autocast_changes_little() -> None:
    net = tiny().eval()
    want = net(picture())["pred"]
    with torch.autocast("cpu", torch.bfloat16):
        got = net(picture())["pred"].float()
    assert float((got - want).abs().mean()) < 0.05 * float(want.std())


def test_a_tiny_picture_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="12x64 pixels is too small for UN-EPT: 16x16 or more"):
        tiny()(picture(12, 64))


@pytest.mark.parametrize(
    ("count", "advice"),
    [
        (144, r"144 rows.*is 8x8: use --set MODEL.query_grid=12,12"),
        (60, "60 rows.*no square has 60: give --set MODEL.query_grid=ROWS,COLUMNS of the file"),
    ],
)
def test_a_query_count_that_does_not_fit_is_one_clear_line(count: int, advice: str) -> None:
    net = tiny()
    state = {**net.state_dict(), "query_embed.weight": torch.zeros(count, 16)}
    with pytest.raises(UserError, match=advice) as caught:
        load_official(net, {"state_dict": state, "meta": {"iter": 1}}, title="old.pth")
    assert str(caught.value).startswith("old.pth: ") and "\n" not in str(caught.value)


def test_the_file_of_another_trunk_is_named_before_its_grid() -> None:
    state = {**tiny("R50").state_dict(), "query_embed.weight": torch.zeros(81, 16)}
    with pytest.raises(UserError) as caught:
        load_official(tiny(), {"state_dict": state}, title="r50.pth")
    message = str(caught.value)
    assert message.startswith("r50.pth (mmseg) does not fit UNEPT") and "query_grid" not in message
    assert "another network, 41 of 41 tensors of the trunk are absent" in message
    assert "backbone.cls_token" in message and "the file has backbone.stem.0" in message


def test_an_official_layout_loads_whole() -> None:
    source, net = tiny(seed=1), tiny(seed=2)
    content = {"state_dict": source.state_dict(), "meta": {"iter": 160000, "CLASSES": ("a", "b")}}
    report = load_official(net, content)
    assert report.layout == "mmseg"
    assert len(report.loaded) == len(source.state_dict()) and not report.dropped
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in source.state_dict().items())


def deit_file(path: Path, rows: int) -> dict[str, Tensor]:
    """A distilled ImageNet file of the tiny trunk with that many position rows."""
    state = {key: torch.randn_like(value) for key, value in tiny().backbone.state_dict().items()}
    state["pos_embed"] = torch.randn(1, rows, 12)
    heads = {name: torch.zeros(1000, 12) for name in ("head.weight", "head_dist.weight")}
    torch.save({"model": {**state, **heads, "norm.weight": torch.ones(12)}}, path)
    return state


def test_a_distilled_deit_file_loads_with_its_positions_resampled(tmp_path: Path) -> None:
    path = tmp_path / "deit.pth"
    state, net = deit_file(path, rows=2 + 36), tiny()
    report = load_trunk(net, str(path))
    own = net.backbone.state_dict()
    assert set(report.loaded) == set(own) and len(report.dropped) == 3
    assert torch.equal(own["pos_embed"][:, :2], state["pos_embed"][:, :2])
    assert own["pos_embed"].shape == (1, 2 + 16, 12)
    assert all(torch.equal(own[key], state[key]) for key in own if key != "pos_embed")


def test_positions_of_no_square_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deit.pth"
    deit_file(path, rows=2 + 35)
    with pytest.raises(UserError, match="pos_embed has 37 rows.* no square grid"):
        load_trunk(tiny(), str(path))


def test_a_v1c_file_loads_without_its_classifier(tmp_path: Path) -> None:
    path, net = tmp_path / "resnet50_v1c.pth", tiny("R50", seed=1)
    state = {key: value.clone() for key, value in tiny("R50").backbone.state_dict().items()}
    torch.save({"state_dict": {**state, "fc.weight": torch.zeros(1000, 2048)}}, path)
    assert load_trunk(net, str(path)).dropped == ("fc.weight",)
    assert torch.equal(net.backbone.stem[3].weight, state["stem.3.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query_grid": (0, 60)}, "query_grid.*two positive numbers wanted"),
        ({"batch_attention": "often"}, "often is unknown; there are never, training, always"),
    ],
)
def test_a_wrong_option_is_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message), torch.device("meta"):
        build_net("unept.R50", 5, **options)


@pytest.mark.parametrize(("arch", "count"), [("R50", 32_357_942), ("DeiT", 94_842_326)])
def test_parameter_counts_are_the_published_ones(arch: str, count: int) -> None:
    with torch.device("meta"):
        net = unept.ARCHS[arch].build(150, ModelConfig())
    assert sum(item.numel() for item in net.parameters()) == count
