# SPDX-License-Identifier: Apache-2.0
"""What the fixtures of networks have in common: inputs, weights, keys and outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from network.build import list_archs, resolve_arch
from network.build import used_options as options_of
from tests.parity import recipe
from tests.parity.core import Row, compare, failure, same
from tests.parity.fixture import CannotRun, Fixture, Record

STATISTICS_RTOL = 1e-4  # of norms and deviations over a whole output; stored arrays are strided
MANY, MANY_SHARE = 1000, 0.2  # values whose mean has this share of the tolerance of one
Rename = Callable[[str], str]


def as_is(key: str) -> str:
    """A key that is spelt the same here and in the recording."""
    return key


def draw_images(spec: Record) -> Tensor:
    """The input (B, 3, H, W): one seed an image, or `batch` images from `seed` on."""
    first = spec.get("seed")
    seeds = spec.get("seeds") or [first + number for number in range(spec.get("batch", 1))]
    if spec.get("batch", len(seeds)) != len(seeds):
        raise CannotRun(f"input: {len(seeds)} seeds for a batch of {spec['batch']}")
    size = spec["height"], spec["width"]
    return torch.from_numpy(np.stack([recipe.image(*size, seed) for seed in seeds]))


def recorded_state(fixture: Fixture) -> dict[str, Tensor]:
    """The recorded weights under their recorded names."""
    manifest = fixture.header["manifest"].plain()
    state = recipe.fill(manifest, fixture.header["gain"])
    return {key: torch.from_numpy(value) for key, value in state.items()}


def own_manifest(net: nn.Module, rename: Rename = as_is) -> dict[str, list[Any]]:
    """`{recorded name: [shape, type]}` of the network here."""
    return {
        rename(key): [list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in net.state_dict().items()
    }


def manifest_rows(fixture: Fixture, net: nn.Module, rename: Rename = as_is) -> list[Row]:
    """Keys, shapes and types of the state dict are those recorded; for layouts of equal keys."""
    return compare_manifests(fixture, own_manifest(net, rename))


def compare_manifests(fixture: Fixture, own: Mapping[str, Any]) -> list[Row]:
    """Keys, shapes and types of two state dicts."""
    want, name = fixture.header["manifest"].plain(), f"{fixture.name}/manifest"
    wrong = sorted(key for key in own.keys() | want.keys() if own.get(key) != want.get(key))
    if not wrong:
        return [same(name, len(own), len(want))]
    key = wrong[0]
    text = f"{key} is {own.get(key, 'not there')}, recorded {want.get(key, 'not there')}"
    return [failure(name, f"{len(wrong)} entries differ, first: {text}")]


def params_rows(fixture: Fixture, count: int) -> list[Row]:
    """The number of parameters, where it was recorded."""
    if "params" not in fixture.header:
        return []
    return [compare(f"{fixture.name}/params", count, fixture.header["params"])]


def count_parameters(net: nn.Module) -> int:
    return sum(item.numel() for item in net.parameters())


def statistics(
    name: str, got: np.ndarray, spec: Record, atol: float, rtol: float, *, sample: bool = False
) -> list[Row]:
    """Mean, deviation, norm and largest magnitude of a whole output, those that were recorded.

    sample: the deviation is that of a sample (n - 1).
    """
    values = got.astype(np.float64)
    middle = atol * (MANY_SHARE if values.size >= MANY else 1.0)
    found = {
        "mean": (lambda: values.mean(), middle, rtol),
        "std": (lambda: values.std(ddof=int(sample)), middle, STATISTICS_RTOL),
        "max": (lambda: np.abs(values).max(), atol, rtol),
    }
    rows = [
        compare(f"{name} {key}", make(), spec[key], *limits)
        for key, (make, *limits) in found.items()
        if key in spec
    ]
    if "l2" in spec:
        norm = float(np.linalg.norm(values))
        rows.append(compare(f"{name} l2", norm, spec["l2"], rtol=STATISTICS_RTOL))
    return rows


def output_rows(
    fixture: Fixture,
    outputs: Mapping[str, Tensor],
    *,
    our_key: Rename = as_is,
    only: str = "",
    slack: float = 1.0,
    sample: bool = False,
) -> list[Row]:
    """Every recorded output whose name begins with `only`: shape, strided values, statistics.

    An output that the network does not give stays unread, and the verdict names it. slack: how
    many times its absolute tolerance an output may differ.
    """
    rows: list[Row] = []
    tolerance = fixture.header["tolerance"]
    for key in fixture.header["outputs"]:
        if not key.startswith(only) or our_key(key) not in outputs:
            continue
        spec = fixture.header["outputs"][key]
        got, name = outputs[our_key(key)].detach().numpy(), f"{fixture.name}/{key}"
        want, step = fixture.arrays[key], spec.get("stride", 1)
        rows.append(same(f"{name} shape", list(got.shape), spec["shape"]))
        if not rows[-1].ok:
            spec.ignore(*spec)
            continue
        atol = slack * (spec["atol"] if "atol" in spec else tolerance["atol"])
        rtol = tolerance.get("rtol", 0.0)
        strided = got[..., ::step, ::step] if got.ndim > 1 else got[..., ::step]
        rows.append(compare(name, strided, want, atol, rtol))
        rows += statistics(name, got, spec, atol, rtol, sample=sample)
    return rows


def resolve(arch: str) -> str:
    """The listed name of an architecture; CannotRun for one that is not known."""
    try:
        return resolve_arch(arch)
    except Exception as error:
        raise CannotRun(f"arch: {str(error).splitlines()[0]}") from error


def used_options(arch: str) -> frozenset[str]:
    """The options that a listed architecture reads."""
    if arch not in list_archs():
        raise CannotRun(f"arch: {arch} is not listed")
    return options_of(arch)
