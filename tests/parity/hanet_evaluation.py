# SPDX-License-Identifier: Apache-2.0
"""The recorded inference of one picture: scales, mirrored pictures, windows or whole pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from engine.predict import Infer, whole
from engine.windows_hanet import hanet_pooling, hanet_sliding
from network.build import build_net
from network.convert import load_official
from network.convert.hanet import official_name
from tests.parity import recipe
from tests.parity.core import Fixture, Row, compare
from tests.parity.hanet_networks import OPTION_NAMES, compare_output, map_rows, recorded_state
from transforms.normalize import to_tensor

PUBLISHED_SIZE = (1024, 2048)
CHANGED_PIXELS = 20  # whose two best scores lie closer together than the tolerance


def network(fixture: Fixture) -> torch.nn.Module:
    """The recorded network, whose keys the fixture of its own has listed."""
    header = fixture.header
    options = {OPTION_NAMES.get(key, key): value for key, value in header["config"].items()}
    net = build_net(f"network.deepv3.{header['arch']}", header["num_classes"], **options)
    manifest = {
        official_name(key): [list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in net.state_dict().items()
    }
    with_manifest = Fixture(fixture.name, {**header, "manifest": manifest})
    load_official(net, recorded_state(with_manifest, net))
    return net.eval()


def drawn_picture(fixture: Fixture) -> np.ndarray:
    """The 8-bit picture (H, W, 3) of the fixture."""
    wanted = fixture.header["input"]
    image = recipe.image(wanted["height"], wanted["width"], wanted["seed"])
    levels = np.rint((image * 0.25 + 0.5) * 255).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))


def procedures(fixture: Fixture, net: torch.nn.Module) -> dict[str, Infer]:
    """The recorded procedures by the name of their output."""
    header, one = fixture.header["evaluation"], whole(net)
    sizes = {"tile": (header["crop_size"],) * 2, "overlap": header["sliding_overlap"]}
    scales, flip = header["scales"], {"flip": header["flip"]}
    return {
        "sliding": hanet_sliding(one, scales, **sizes, **flip, batch_windows=3),
        "sliding_official": hanet_sliding(one, scales, **sizes, **flip, official=True),
        "whole": hanet_pooling(one, scales, **flip, out_size=PUBLISHED_SIZE),
    }


@torch.inference_mode()
def check_evaluation(fixture: Fixture) -> list[Row]:
    """Scores of every procedure, and how many pixels each class gets."""
    picture = to_tensor(drawn_picture(fixture))[None]
    positions = map_rows(0, 1024)
    positions = positions.view(1, picture.shape[2], -1).mean(2)
    rows = []
    for name, infer in procedures(fixture, network(fixture)).items():
        scores: Tensor = infer(picture, positions)["pred"][0]
        values = scores.exp() if name == "whole" else scores
        rows += compare_output(fixture, name, values)
        counts = torch.bincount(scores.argmax(0).flatten(), minlength=len(scores))
        recorded = fixture.header["argmax_histogram"][name]
        rows.append(compare(f"{fixture.name}/{name} classes", counts, recorded, CHANGED_PIXELS))
    return rows


CHECKS: dict[str, Callable[[Fixture], list[Row]]] = {"evaluation_*": check_evaluation}
