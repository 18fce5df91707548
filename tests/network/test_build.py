# SPDX-License-Identifier: Apache-2.0
"""Names, options and sizes of the architectures."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from config import UserError
from network.build import (
    arch_named,
    build_net,
    is_classifier,
    list_archs,
    list_classifiers,
    resolve_arch,
)
from tests.network.tiny import NUM_CLASSES, picture, tiny_net

ROOT = Path(__file__).resolve().parent.parent.parent
ARCHS = [arch for arch in list_archs() if arch.startswith("ocrnet.")]


def test_every_promised_name_is_listed() -> None:
    promised = {"HRNet", "HRNet_Mscale", "HRNet18", "HRNet18_Mscale", "HRNet32_Mscale"}
    assert {f"ocrnet.{name}" for name in promised} <= set(ARCHS)


def test_the_published_spelling_with_package_resolves() -> None:
    assert resolve_arch("network.ocrnet.HRNet_Mscale") == "ocrnet.HRNet_Mscale"


@pytest.mark.parametrize(
    "arch", ["ocrnet.HRNet_Mscal", "HRNet_Mscale", "ocrnet._mscale", "x.y", ""]
)
def test_unknown_arch_is_one_line_that_says_what_lists_all(arch: str) -> None:
    with pytest.raises(UserError, match="--arch help") as caught:
        build_net(arch, 19)
    assert "\n" not in str(caught.value)


def test_a_misspelt_arch_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"did you mean ocrnet\.HRNet_Mscale\?"):
        resolve_arch("ocrnet.HRNet_Mscal")


def test_a_misspelt_option_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean n_scales"):
        build_net("ocrnet.HRNet_Mscale", 19, n_scale=(1.0,))


def test_an_option_without_effect_is_refused() -> None:
    with pytest.raises(UserError, match=r"n_scales=.* has no effect on ocrnet\.HRNet"):
        build_net("ocrnet.HRNet", 19, n_scales=(0.5, 1.0))


@pytest.mark.parametrize("scales", [(0.5, 2.0), (1.0, 1.0), (0.0, 1.0), ()])
def test_wrong_scales_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="n_scales"):
        tiny_net(n_scales=scales)


def test_lists_from_a_checkpoint_do_as_tuples() -> None:
    assert tiny_net(n_scales=[1.0, 0.5, 2.0], hrnet_modules=[1, 1, 1]).scales == (2.0, 1.0, 0.5)


def test_no_classes_are_refused() -> None:
    with pytest.raises(UserError, match="num_classes 0"):
        build_net("ocrnet.HRNet", 0)


def test_classifiers_are_told_from_networks_that_predict_maps() -> None:
    assert all(is_classifier(arch) == (arch in list_classifiers()) for arch in list_archs())
    assert not is_classifier("network.hrvit.b1_SegFormer_Mscale")
    with pytest.raises(UserError, match="is no architecture"):
        is_classifier("hrvit.b9_224")


BROKEN = """
from config import UserError
from network.build import arch_help, build_net, is_classifier, list_archs
import torch
with torch.device("meta"):
    build_net("ocrnet.HRNet", 19)
assert not is_classifier("ocrnet.HRNet") and "ocrnet.HRNet" in list_archs()
print(*[line for line in arch_help() if " " in line], sep="\\n")
try:
    build_net("hrvit.b1_SegFormer", 19)
except UserError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("def f(:\n", "SyntaxError: invalid syntax (network/hrvit.py, line 1)"),
        ("import os\n\nos.gone\n", "no attribute 'gone' (network/hrvit.py, line 3)"),
    ],
)
def test_a_broken_file_breaks_its_own_family(code: str, problem: str, tmp_path: Path) -> None:
    tree = tmp_path / "hiseg"
    leave = shutil.ignore_patterns(".*", "__pycache__", "data", "logs", "assets", "tests", "docs")
    shutil.copytree(ROOT, tree, ignore=leave)
    (tree / "network" / "hrvit.py").write_text(code, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-c", BROKEN], cwd=tree, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    listed, refused = result.stdout.splitlines()
    assert listed == refused
    assert refused.startswith("network/hrvit.py cannot be imported: ") and problem in refused


@pytest.mark.parametrize(
    ("arch", "num_classes", "count"),
    [
        ("ocrnet.HRNet", 19, 70_372_678),
        ("ocrnet.HRNet_Mscale", 19, 72_143_430),
        ("ocrnet.HRNet_Mscale", 65, 72_200_194),
    ],
)
def test_published_parameter_counts(arch: str, num_classes: int, count: int) -> None:
    with torch.device("meta"):
        net = build_net(arch, num_classes)
    assert sum(item.numel() for item in net.parameters()) == count


@pytest.mark.parametrize(("arch", "width"), [("ocrnet.HRNet18", 18), ("ocrnet.HRNet32_Mscale", 32)])
def test_the_name_sets_the_width_and_an_option_overrides_it(arch: str, width: int) -> None:
    with torch.device("meta"):
        named, overridden = build_net(arch, 19), build_net(arch, 19, hrnet_width=20)
    trunks = [net.trunk for net in (named, overridden)]
    assert [trunk.channels[0] for trunk in trunks] == [width, 20]


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (70, 64)])
def test_any_size_from_32_gives_scores_at_the_size_of_the_input(
    arch: str, size: tuple[int, int]
) -> None:
    net = tiny_net(arch).eval()
    with torch.inference_mode():
        outputs = net(picture(*size, batch=2))
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {
        "pred": (2, NUM_CLASSES, *size)
    }


@pytest.mark.parametrize("arch", ARCHS)
def test_training_reaches_every_parameter(arch: str) -> None:
    net = tiny_net(arch).train()
    outputs = net(picture(batch=2))
    sum(value.float().pow(2).mean() for value in outputs.values()).backward()
    without = [name for name, item in net.named_parameters() if item.grad is None]
    assert without == []
    assert all(bool(torch.isfinite(item.grad).all()) for item in net.parameters())


def classes_of_the_text(arch: str) -> int:
    """Number of classes for which the line about an architecture counts parameters."""
    if is_classifier(arch):
        return 1000
    return 150 if arch.startswith("unept.") or arch.endswith("_UPerNet") else 19


@pytest.mark.slow
def test_the_line_about_an_architecture_counts_its_parameters() -> None:
    checked = 0
    for arch in list_archs():
        stated = re.search(r"([\d,]+) parameters", arch_named(arch)[0].about)
        if stated is None:
            continue
        with torch.device("meta"):
            net = build_net(arch, classes_of_the_text(arch))
        assert f"{sum(item.numel() for item in net.parameters()):,}" == stated[1], arch
        checked += 1
    assert checked > 40
