# SPDX-License-Identifier: Apache-2.0
"""Recorded UN-EPT networks and their parts, down to the operator and the gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.predict import Infer, slide
from network.backbones.deit import resample_positions
from network.build import build_net
from network.heads.boundary import SpatialBranch
from network.heads.deformable import (
    BatchAttention,
    ContextBranch,
    cell_centres,
    sine_position,
    starting_offsets,
)
from network.ops.deform_attn import deformable_attention, level_by_level
from network.ops.resize import size_of
from network.outputs import DIRECTION, MASK, PRED
from tests.parity.core import FIXTURES, Fixture, Row, compare, failure, load_fixture
from tests.parity.hmsa_networks import compare_outputs, draw_image, load_recorded

ARCHS = {"res50": "unept.R50", "deit": "unept.DeiT"}


def as_size(pair: list[int]) -> tuple[int, int]:
    height, width = pair
    return height, width


def build(fixture: Fixture, **options: object) -> nn.Module:
    """The network of a fixture in eval mode, loaded strictly with the recorded weights."""
    header = fixture.header
    arch = ARCHS[header["config"]["official_config"].split("_")[0]]
    grid = as_size(header["config"]["query_grid"])
    net = build_net(arch, header["num_classes"], query_grid=grid, **options)
    load_recorded(net, fixture)
    return net.eval()


@contextlib.contextmanager
def watched(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """The last output of every module, by its key here."""
    seen: dict[str, Tensor] = {}

    def keep(key: str):  # type: ignore[no-untyped-def]
        return lambda module, inputs, output: seen.__setitem__(key, output)

    handles = [module.register_forward_hook(keep(key)) for key, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def branch_modules(branch: ContextBranch) -> dict[str, nn.Module]:
    modules = {}
    for part, layers in (("encoder", branch.encoder.layers), ("decoder", branch.decoder.layers)):
        modules.update({f"{part}.{number}": layer for number, layer in enumerate(layers)})
    return modules


@torch.inference_mode()
def all_maps(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Every recorded output of a whole network by its recorded key."""
    parts = {"spatial": net.spatial_branch, "logits8": net.cls, "trunk": net.backbone}
    with watched({**parts, **branch_modules(net.context_branch)}) as seen:
        outputs = net(images, return_all=True)
    trunk = seen.pop("trunk")
    maps = {f"backbone.{number}": x for number, x in enumerate(trunk)}
    maps |= {"mask": outputs[MASK], "direction": outputs[DIRECTION], "seg_logits": outputs[PRED]}
    shapes = [size_of(x) for x in trunk]
    for key, value in seen.items():
        if key.startswith("encoder"):
            levels = value.split([height * width for height, width in shapes], dim=1)
            for number, (level, shape) in enumerate(zip(levels, shapes, strict=True)):
                maps[f"{key}.level{number}"] = level.transpose(1, 2).unflatten(2, shape)
        elif key.startswith("decoder"):
            maps[key] = value.transpose(1, 2).unflatten(2, size_of(seen["spatial"]))
        else:
            maps[key] = value
    return maps


def check_network(fixture: Fixture) -> list[Row]:
    net = build(fixture)
    count = sum(item.numel() for item in net.parameters())
    rows = [compare(f"{fixture.name}/params", count, fixture.header["params"])]
    return rows + compare_outputs(fixture, all_maps(net, draw_image(fixture.header["input"])))


@torch.inference_mode()
def check_spatial(fixture: Fixture) -> list[Row]:
    branch = SpatialBranch().eval()
    load_recorded(branch, fixture)
    modules = {"convblock1": branch.convblock1, "convblock2": branch.convblock2}
    with watched(modules) as seen:
        output = branch(draw_image(fixture.header["input"]))
    count = sum(item.numel() for item in branch.parameters())
    rows = [compare(f"{fixture.name}/params", count, fixture.header["params"])]
    maps = {key: value.relu() for key, value in seen.items()}
    return rows + compare_outputs(fixture, {**maps, "output": output})


def _arrays(fixture: Fixture, key: str) -> Tensor:
    return torch.from_numpy(fixture.arrays[key])


def small_branch(fixture: Fixture) -> ContextBranch:
    """The recorded context branch in eval mode."""
    config = fixture.header["config"]
    branch = ContextBranch(
        config["d_model"],
        heads=config["heads"],
        levels=config["levels"],
        points=config["points"],
        depth=config["encoder_layers"],
        hidden=config["feedforward"],
    ).eval()
    load_recorded(branch, fixture)
    return branch


@torch.inference_mode()
def check_branch(fixture: Fixture) -> list[Row]:
    """The published mixing of the batch; with one picture our own form too."""
    config, branch = fixture.header["config"], small_branch(fixture)
    levels = [_arrays(fixture, f"level.{n}") for n in range(config["levels"])]
    grid = as_size(config["query_grid"])
    queries = _arrays(fixture, "context").transpose(0, 1) + _arrays(fixture, "query_embed")
    shapes = [as_size(shape) for shape in config["level_shapes"]]
    count = sum(item.numel() for item in branch.parameters())
    rows = [compare(f"{fixture.name}/params", count, fixture.header["params"])]
    for mix in (True, False) if config["batch"] == 1 else (True,):
        with watched(branch_modules(branch)) as seen:
            output = branch(levels, queries, grid, mix_batch=mix)
        attention = branch.decoder.layers[0].self_attn
        assert isinstance(attention, BatchAttention)
        step, shares = nn.MultiheadAttention.forward(attention, *[queries] * 3)
        if not mix:
            step = attention.project(queries)
        centres = torch.cat([cell_centres(shape, output) for shape in shapes])
        got = {
            "encoder_reference_points": centres[None, :, None].expand(-1, -1, len(shapes), -1),
            "encoder_pos": branch.positions(levels).expand(config["batch"], -1, -1),
            "decoder_reference_points": cell_centres(grid, output)[None, :, None].expand(
                -1, -1, len(shapes), -1
            ),
            "decoder.0.self_attn": step.transpose(0, 1),
            "decoder.0.self_attn_weights": shares,
            "output": output.transpose(0, 1),
        }
        for key, value in seen.items():
            got[key] = value.transpose(0, 1) if key.startswith("decoder") else value
        rows += compare_outputs(fixture, got)
    return rows


def check_operator(fixture: Fixture) -> list[Row]:
    """Output and gradients of both ways to compute the operator."""
    header = fixture.header
    tolerance = header["tolerance"]
    shapes = tuple(as_size(shape) for shape in header["spatial_shapes"])
    defined = fixture.arrays["location_gradient_defined"]
    rows = []
    for operator in (deformable_attention, level_by_level):
        value, locations, weights = (
            _arrays(fixture, key).requires_grad_() for key in header["inputs"][:3]
        )
        output = operator(value, shapes, locations, weights)
        (output * _arrays(fixture, "cotangent")).sum().backward()
        got = {
            "output": output.detach(),
            "grad_value": value.grad,
            "grad_sampling_locations": locations.grad,
            "grad_attention_weights": weights.grad,
        }
        for key, array in got.items():
            keep = defined if key == "grad_sampling_locations" else ...
            name = f"{fixture.name}/{operator.__name__}/{key}"
            want = fixture.arrays[key][keep]
            rows.append(compare(name, array.numpy()[keep], want, **tolerance))
    return rows


def check_position(fixture: Fixture) -> list[Row]:
    got = {
        "position_16x5x7": sine_position((5, 7), 16),
        "position_256x60x60": sine_position((60, 60), 256)[:, ::15, ::15],
        "sampling_offsets_bias": starting_offsets(8, 3, 16),
    }
    tolerance = fixture.header["tolerance"]
    return [
        compare(f"{fixture.name}/{key}", value.numpy(), fixture.arrays[key], **tolerance)
        for key, value in got.items()
    ]


def check_resize(fixture: Fixture) -> list[Row]:
    header = fixture.header
    old, new = header["old_grid"], header["new_grid"]
    source = _arrays(fixture, "checkpoint_pos_embed")
    got = resample_positions(source, (old, old), (new, new)).numpy()
    return [compare(fixture.name, got, fixture.arrays["pos_embed"], **header["tolerance"])]


def published_loss(outputs: Mapping[str, Tensor], fixture: Fixture) -> Tensor:
    """The recorded loss: no boundary logit is above 0.5 here, so the refinement moves nothing."""
    label, distance, angle = (
        torch.from_numpy(fixture.arrays[key].astype(np.int64))[:, 0]
        for key in ("label", "distance", "angle")
    )
    mask, direction = (
        F.interpolate(outputs[key], label.shape[-2:], mode="bilinear", align_corners=True)
        for key in (MASK, DIRECTION)
    )
    assert float(mask.detach()[:, 1].max()) < 0.5
    near = ((distance >= 0) & (distance <= 5)).long()
    octant = torch.ceil((angle.double() + 180 - 22.5) / 45).long() % 8
    octant[mask.softmax(1)[:, 1] <= 0.5] = -1

    def balanced(logits: Tensor, target: Tensor) -> Tensor:
        count = torch.bincount(target[target >= 0], minlength=logits.shape[1])
        return F.cross_entropy(logits, target, (1 - count / count.sum()).float(), ignore_index=-1)

    classes = F.cross_entropy(outputs[PRED], label, ignore_index=255, reduction="none").mean()
    return 1.8 * classes + 5 * balanced(mask, near) + 0.6 * balanced(direction, octant)


def misread(gradient: Tensor) -> Tensor:
    """What torch's CPU batch norm made of the gradient of the spatial branch when it was recorded.

    For one picture it took the memory of a (cells, channels) gradient for (channels, cells).
    """
    return gradient.flatten(2).transpose(1, 2).reshape(gradient.shape)


def check_gradients(fixture: Fixture) -> list[Row]:
    """Loss and length of the gradient of every parameter, in eval mode.

    differs: below the spatial branch the recorded lengths are those of a misread gradient, while
    ours is right; for the comparison it is misread too.
    """
    header, tolerance = fixture.header, fixture.header["tolerance"]
    recorded = load_fixture(FIXTURES / "unept" / "res50_unept_ade20k_96.json")
    net = build(recorded, boundary_heads=True)
    with watched({"spatial": net.spatial_branch}) as seen:
        outputs = net(draw_image(header["input"]), return_all=True)
    spatial = seen["spatial"]
    spatial.retain_grad()
    loss = published_loss(outputs, fixture)
    loss.backward(retain_graph=True)
    net.spatial_branch.zero_grad()
    spatial.backward(misread(spatial.grad))
    rows = [compare(fixture.name, loss.item(), header["loss"], rtol=tolerance["loss_rtol"])]
    lengths = {name: float(item.grad.norm()) for name, item in net.named_parameters()}
    if lengths.keys() != header["gradient_l2"].keys():
        return [failure(fixture.name, "other parameters than recorded")]
    limits = tolerance["gradient_atol"], tolerance["gradient_rtol"]
    return rows + [
        compare(f"{fixture.name}/{key}", lengths[key], want, *limits)
        for key, want in header["gradient_l2"].items()
    ]


def toy(fixture: Fixture) -> Infer:
    """The network of the sliding fixture: channels of the picture and ramps inside the window."""
    classes, (height, width) = fixture.header["num_classes"], fixture.header["crop"]

    def infer(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        number = torch.arange(classes)[:, None, None]
        row = torch.arange(images.shape[-2])[:, None] / height
        column = torch.arange(images.shape[-1]) / width
        ramp = (number + 1) * row - number * column
        return {PRED: images[:, number[:, 0, 0] % 3] * (1 + 0.5 * number) + ramp}

    return infer


def check_slide(fixture: Fixture) -> list[Row]:
    """Windows, their mean and number, and the mean of the passes' probabilities."""
    header, tolerance = fixture.header, fixture.header["tolerance"]
    original = torch.Size(header["original_size"])
    crop, stride = as_size(header["crop"]), as_size(header["stride"])
    seen: list[int] = []

    def counted(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        seen.append(len(images))
        return toy(fixture)(images, rows)

    mean = torch.zeros(1, header["num_classes"], *original)
    rows = []
    for number, spec in enumerate(header["passes"]):
        seen.clear()
        scores = slide(counted, crop, stride)(draw_image(spec))[PRED]
        rows.append(compare(f"{fixture.name}/{number}.windows", sum(seen), spec["windows"]))
        full = F.interpolate(scores, original, mode="bilinear").softmax(1)
        full = full.flip(-1) if spec["mirrored"] else full
        mean += full / len(header["passes"])
        for key, value in (("window_mean", scores), ("probability", full)):
            want = fixture.arrays[f"{number}.{key}"]
            rows.append(compare(f"{fixture.name}/{number}.{key}", value[0], want, **tolerance))
    rows.append(compare(f"{fixture.name}/average", mean[0], fixture.arrays["average"], **tolerance))
    want = fixture.arrays["prediction"]
    return [*rows, compare(f"{fixture.name}/prediction", mean.argmax(1)[0], want)]


CHECKS = {
    "res50_unept_*": check_network,
    "deit_unept_*": check_network,
    "spatial_branch_*": check_spatial,
    "context_branch_*": check_branch,
    "train_gradients_res50_96": check_gradients,
    "slide_inference": check_slide,
    "op_ms_deform_attn": check_operator,
    "position_and_init": check_position,
    "deit_position_resize": check_resize,
}
