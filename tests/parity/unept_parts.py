# SPDX-License-Identifier: Apache-2.0
"""Recorded parts of UN-EPT: branches, operator, positions, and windows around a toy network."""

from __future__ import annotations

import re

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.predict import Infer, slide
from network.backbones.deit import resample_positions
from network.convert import load_official
from network.heads.boundary import SpatialBranch
from network.heads.deformable import (
    BatchAttention,
    ContextBranch,
    cell_centres,
    sine_position,
    starting_offsets,
)
from network.ops.deform_attn import deformable_attention, level_by_level
from network.outputs import PRED
from tests.parity.core import Check, Row, compare
from tests.parity.fixture import CannotRun, Fixture
from tests.parity.networks import (
    count_parameters,
    draw_images,
    manifest_rows,
    output_rows,
    params_rows,
    recorded_state,
    statistics,
)
from tests.parity.unept_networks import as_size, branch_modules, watched

ON_LINE = 1e-3  # cells from a line of centres, from which on a derivative is defined
USUAL_OFFSETS = {"heads": 8, "levels": 3, "points": 16}


@torch.inference_mode()
def check_spatial(fixture: Fixture) -> list[Row]:
    """The spatial branch, all its maps."""
    branch = SpatialBranch().eval()
    rows = manifest_rows(fixture, branch) + params_rows(fixture, count_parameters(branch))
    if not rows[0].ok:
        return rows
    load_official(branch, recorded_state(fixture))
    modules = {"convblock1": branch.convblock1, "convblock2": branch.convblock2}
    with watched(modules) as seen:
        output = branch(draw_images(fixture.header["input"]))
    maps = {key: value.relu() for key, value in seen.items()}
    return rows + output_rows(fixture, {**maps, "output": output})


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
    if config.get("activation", "relu") != "relu":
        raise CannotRun(f"config.activation: {config['activation']}, relu is the known one")
    if config.get("decoder_layers", config["encoder_layers"]) != config["encoder_layers"]:
        raise CannotRun("config.decoder_layers: as many as encoder_layers are wanted")
    return branch


@torch.inference_mode()
def check_branch(fixture: Fixture) -> list[Row]:
    """The published mixing of the batch; with one image our own form too."""
    config, branch = fixture.header["config"], small_branch(fixture)
    levels = [_arrays(fixture, f"level.{n}") for n in range(config["levels"])]
    grid = as_size(config["query_grid"])
    queries = _arrays(fixture, "context").transpose(0, 1) + _arrays(fixture, "query_embed")
    shapes = [as_size(shape) for shape in config["level_shapes"]]
    rows = manifest_rows(fixture, branch) + params_rows(fixture, count_parameters(branch))
    if not rows[0].ok:
        return rows
    load_official(branch, recorded_state(fixture))
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
        rows += output_rows(fixture, got)
    return rows


def check_operator(fixture: Fixture) -> list[Row]:
    """Output and gradients of both ways to compute the operator."""
    header = fixture.header
    tolerance = header["tolerance"].plain()
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
            if key != "grad_sampling_locations":
                limits = tolerance["atol"], tolerance["rtol"]
                rows += statistics(name, array.numpy(), header["outputs"][key], *limits)
    places = locations.detach().numpy()
    rows.append(compare(f"{fixture.name}/defined", off_the_lines(places, shapes), defined))
    sizes = header["heads"], header["channels_per_head"], header["points"]
    own = [value.shape[2], value.shape[3], locations.shape[4]]
    rows.append(compare(f"{fixture.name}/sizes", own, sizes))
    for key, spec in header["outputs"].items():
        rows.append(compare(f"{fixture.name}/{key} shape", got[key].shape, spec["shape"]))
    rows += undefined_rows(fixture, got["grad_sampling_locations"].numpy(), ~defined)
    return rows


def off_the_lines(locations: np.ndarray, shapes: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Which points (..., L, P, 2) lie on no line of cell centres of their level."""
    sizes = np.array([[width, height] for height, width in shapes], np.float64)
    cells = locations * sizes[:, None] - 0.5
    return np.all(np.abs(cells - np.round(cells)) > ON_LINE, axis=-1)


def undefined_rows(fixture: Fixture, got: np.ndarray, apart: np.ndarray) -> list[Row]:
    """Statistics of the recorded gradient of the locations, which has one-sided derivatives.

    Where a point lies exactly on a line of cell centres the recording may have the other side's
    derivative, so the statistics are those of the recorded numbers there and of ours elsewhere.
    """
    key = "grad_sampling_locations"
    mixed = np.where(apart[..., None], fixture.arrays[key], got)
    tolerance = fixture.header["tolerance"]
    limits = tolerance["atol"], tolerance["rtol"]
    spec = fixture.header["outputs"][key]
    return statistics(f"{fixture.name}/{key} whole", mixed, spec, *limits)


def position_of(name: str, stored: tuple[int, ...]) -> Tensor | None:
    """The sine position of an array called `position_CHANNELSxROWSxCOLUMNS`, as it is stored."""
    found = re.fullmatch(r"position_(\d+)x(\d+)x(\d+)", name)
    if found is None:
        return None
    channels, height, width = (int(group) for group in found.groups())
    down, right = -(-height // stored[1]), -(-width // stored[2])
    return sine_position((height, width), channels)[:, ::down, ::right]


def offsets_of(text: str) -> Tensor:
    """The starting offsets of a layer whose sizes the fixture states in words."""
    sizes = dict(USUAL_OFFSETS)
    for key in sizes:
        found = re.search(rf"(\d+) {key}", text)
        sizes[key] = int(found[1]) if found else sizes[key]
    return starting_offsets(sizes["heads"], sizes["levels"], sizes["points"])


def check_position(fixture: Fixture) -> list[Row]:
    """Every recorded position code, and the start of the offset layer."""
    header, rows = fixture.header, []
    tolerance = header["tolerance"].plain()
    said = header["what"].plain() if not isinstance(header.get("what", ""), str) else {}
    for name in fixture.arrays:
        want = fixture.arrays[name]
        got = position_of(name, want.shape)
        if name.startswith(OFFSETS):
            got = offsets_of(str(said.get(name, "")))
        if got is None:
            raise CannotRun(f"the array {name} names no known table")
        rows.append(compare(f"{fixture.name}/{name}", got.numpy(), want, **tolerance))
    return rows


def check_resize(fixture: Fixture) -> list[Row]:
    """Positions of a checkpoint, resampled to another grid."""
    header = fixture.header
    old, new = header["old_grid"], header["new_grid"]
    grids = [(size, size) if isinstance(size, int) else as_size(size) for size in (old, new)]
    source, tolerance = _arrays(fixture, "checkpoint_pos_embed"), header["tolerance"].plain()
    got = resample_positions(source, *grids).numpy()
    rows = [
        compare(fixture.name, got, fixture.arrays["pos_embed"], **tolerance),
        compare(f"{fixture.name}/channels", got.shape[-1], header["channels"]),
    ]
    if "pos_embed" in header["outputs"]:
        spec = header["outputs"]["pos_embed"]
        rows.append(compare(f"{fixture.name}/shape", got.shape, spec["shape"]))
        rows += statistics(
            fixture.name, got, spec, tolerance["atol"], tolerance["rtol"], sample=True
        )
    return rows


def toy(fixture: Fixture) -> Infer:
    """The network of the sliding fixture: channels of the image and ramps inside the window."""
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
    header, tolerance = fixture.header, fixture.header["tolerance"].plain()
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
        scores = slide(counted, crop, stride)(draw_images(spec))[PRED]
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


OFFSETS = "sampling_offsets"
CHECKS = (
    Check(
        "unept spatial branch",
        lambda fixture: "convblock1.conv1.weight" in fixture.header.peek().get("manifest", {}),
        check_spatial,
        {"arch": "what the branch is called"},
    ),
    Check(
        "unept context branch",
        lambda fixture: "d_model" in fixture.header.peek().get("config", {}),
        check_branch,
        {"arch": "what the branch is called", "inputs.*": "in words", "layouts": "in words"},
    ),
    Check(
        "unept deformable attention",
        lambda fixture: "spatial_shapes" in fixture.header,
        check_operator,
        {
            "outputs.*.stride": "whole arrays",
            "arch": "what it is called",
            "loss": "in words",
            "location_gradient": "in words",
        },
    ),
    Check(
        "unept positions",
        lambda fixture: any(n.startswith(("position_", OFFSETS)) for n in fixture.arrays),
        check_position,
        {"arch": "what it is called", "what.*": "in words"},
    ),
    Check(
        "unept position resize",
        lambda fixture: "old_grid" in fixture.header,
        check_resize,
        {"arch": "what it is called"},
    ),
    Check(
        "unept windows",
        lambda fixture: "passes" in fixture.header,
        check_slide,
        {"arch": "what it is called", "arrays.*": "in words"},
    ),
)
