# SPDX-License-Identifier: Apache-2.0
"""The recorded inference of one image: scales, mirrored images, windows or whole images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from engine.predict import Infer, whole
from engine.windows_hanet import hanet_sliding
from network.convert import load_official
from network.convert.hanet import official_name
from tests.parity import recipe
from tests.parity.core import Check, Row, compare
from tests.parity.fixture import CannotRun, Fixture, Record
from tests.parity.hanet_networks import MAP_ROWS, REMARKS, build, map_rows
from tests.parity.networks import output_rows, own_manifest
from tests.parity.published import SizedPooling
from transforms.normalize import to_tensor

PUBLISHED_SIZE = (1024, 2048)
CHANGED_PIXELS = 20  # whose two best scores lie closer together than the tolerance


def network(header: Record) -> torch.nn.Module:
    """The recorded network; its keys are those of the one here, which its own fixture checks."""
    net = build(header)
    own = own_manifest(net, official_name)
    state = {k: torch.from_numpy(v) for k, v in recipe.fill(own, header["gain"]).items()}
    named = {official_name(key): value for key, value in net.state_dict().items()}
    for key in header.get("kept", []):
        if key not in named:
            raise CannotRun(f"kept: {key} is no entry of the network")
        state[key] = named[key].clone()
    load_official(net, state)
    return net.eval()


def drawn_picture(wanted: Record) -> np.ndarray:
    """The 8-bit image (H, W, 3) of the fixture."""
    image = recipe.image(wanted["height"], wanted["width"], wanted["seed"])
    levels = np.rint((image * 0.25 + 0.5) * 255).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))


def procedures(header: Record, net: torch.nn.Module) -> dict[str, Callable[[], Infer]]:
    """How to build the recorded procedures, by the name of their output."""
    one, scales, flip = whole(net), header["scales"], {"flip": header["flip"]}
    tile = header.get("crop_size", 0)
    size = tile if isinstance(tile, list) else [tile, tile]
    sizes = {"tile": tuple(size), "overlap": header.get("sliding_overlap", 0.0)}
    return {
        "sliding": lambda: hanet_sliding(one, scales, **sizes, **flip, batch_windows=3),
        "sliding_official": lambda: hanet_sliding(one, scales, **sizes, **flip, official=True),
        "whole": lambda: SizedPooling(one, scales, PUBLISHED_SIZE, **flip),
    }


@torch.inference_mode()
def check_evaluation(fixture: Fixture) -> list[Row]:
    """Scores of every recorded procedure, and how many pixels each class gets."""
    header = fixture.header
    picture = to_tensor(drawn_picture(header["input"]))[None]
    positions = map_rows(0, MAP_ROWS).view(1, picture.shape[2], -1).mean(2)
    known = procedures(header["evaluation"], network(header))
    rows: list[Row] = []
    for name in header["outputs"]:
        if name not in known:
            raise CannotRun(f"outputs: {name} is no known way to evaluate")
        scores = known[name]()(picture, positions)["pred"][0]
        values = scores.exp() if name == "whole" else scores
        rows += output_rows(fixture, {name: values}, only=name, sample=True)
        if name in header.get("argmax_histogram", {}):
            counts = torch.bincount(scores.argmax(0).flatten(), minlength=len(scores)).numpy()
            recorded = header["argmax_histogram"][name]
            rows.append(compare(f"{fixture.name}/{name} classes", counts, recorded, CHANGED_PIXELS))
    return rows


CHECKS = (
    Check(
        "hanet evaluation",
        lambda fixture: fixture.header.get("kind") == "evaluation",
        check_evaluation,
        REMARKS,
    ),
)
