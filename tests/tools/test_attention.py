# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.attention`: files, page, stage sets and one line for wrong input."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from network.build import build_net
from network.topdown import topdown_stages, topdown_weights
from reports.attention_page import zoom
from tools import attention

Draw = Callable[..., None]
SIZE = (96, 128)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image and weights of three networks, one of them written by this program."""
    folder = tmp_path_factory.mktemp("attention")
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "street.view.png")
    for arch in ("hila.B0_S34", "segformer.B0"):
        net = build_net(arch, 3)
        torch.save({"state_dict": net.state_dict()}, folder / f"{arch}.pth")
    net = build_net("hila.B0_S3", 2, hila_stages=(2, 4))
    own = {"arch": "hila.B0_S3", "num_classes": 2, "dataset": "camvid"}
    own |= {"model_options": {"hila_stages": [2, 4]}, "state_dict": net.state_dict()}
    torch.save(own, folder / "own.pth")
    return folder


@pytest.fixture
def draw(files: Path) -> Draw:
    """Runs the program: it draws, or prints one `error:` line."""

    def call(out: Path, *flags: str) -> None:
        picture = str(files / "street.view.png")
        code = attention.main(["--image", picture, "--result_dir", str(out), *flags])
        assert code == (0 if (out / attention.PAGE).exists() else 2)

    return call


def test_draws_every_token_and_one_page_without_other_files(
    files: Path, draw: Draw, tmp_path: Path
) -> None:
    arch, snapshot = "hila.B0_S34", str(files / "hila.B0_S34.pth")
    flags = ("--arch", arch, "--snapshot", snapshot, "--coords", "1", "2", "--coords", "0", "3")
    draw(tmp_path, *flags, "--coords", "1", "2")
    names = {path.name for path in (tmp_path / attention.FOLDER).iterdir()}
    kinds = ["hierarchical_attn_stage3to4", "hierarchical_attn_stage2to4"]
    kinds += ["parents_stage3of2", "parents_stage4of2"]
    wanted = {f"street.view_{at}_{kind}.png" for at in ("x1_y2", "x0_y3") for kind in kinds}
    assert names == wanted
    for name in names:
        with Image.open(tmp_path / attention.FOLDER / name) as picture:
            assert picture.size == SIZE[::-1]
    page = (tmp_path / attention.PAGE).read_text()
    assert page.count('class="card" id="token') == 2
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert links and all(link.startswith(("data:", "#token")) for link in links)


def test_a_checkpoint_of_this_program_needs_no_arch(
    files: Path, draw: Draw, tmp_path: Path
) -> None:
    snapshot = ("--snapshot", str(files / "own.pth"))
    draw(tmp_path / "4", *snapshot, "--coords", "2", "3")
    draw(tmp_path / "2", *snapshot, "--coords", "11", "15", "--stage", "2")
    found = [sorted(path.name for path in (tmp_path / n / "topdown_attn").iterdir()) for n in "42"]
    assert found == [
        [f"street.view_x2_y3_{kind}4.png" for kind in ("hierarchical_attn_stage3to",)]
        + ["street.view_x2_y3_parents_stage4of3.png"],
        ["street.view_x11_y15_hierarchical_attn_stage1to2.png"]
        + ["street.view_x11_y15_parents_stage2of1.png"],
    ]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--coords", "3", "0"], ["--coords 3 0", "rows 0..2", "columns 0..3 (row first"]),
        (["--coords", "0", "-1"], ["--coords 0 -1", "outside"]),
        (["--stage", "2"], ["--stage 2", "from stage 3, 4"]),
        (["--max_side", "0"], ["--max_side: 0 must be at least 1"]),
        (["--result_dir", "/proc/nowhere"], ["--result_dir /proc/nowhere cannot be written"]),
        (["--arch", "segformer.B0", "--snapshot", "segformer.B0.pth"],
         ["segformer.B0 has no inter-level attention", "hila.B0_S3"]),
        (["--image", "nowhere.png"], ["nowhere.png", "cannot be read"]),
        (["--cords", "1", "1"], ["--cords"]),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(
    files: Path,
    draw: Draw,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    words: list[str],
) -> None:
    given = [str(files / flag) if flag.endswith(".pth") else flag for flag in flags]
    default = ["--arch", "hila.B0_S34", "--snapshot", str(files / "hila.B0_S34.pth")]
    draw(tmp_path, *default, *given)
    out, err = capsys.readouterr()
    errors = [line for line in out.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and errors == err.splitlines()
    for word in words:
        assert word in errors[0]


def test_missing_weights_are_one_line(
    draw: Draw, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path)
    out, err = capsys.readouterr()
    assert err == "error: pictures need weights: --snapshot FILE\n"
    assert "parameters" not in out, "no network is built before"


def test_weights_of_unshared_steps_are_those_of_the_last() -> None:
    options = {"hila_share_topdown": False, "stage_depths": (1, 1, 3, 1)}
    net = build_net("hila.B0_S3", 2, **options).eval()
    weights = topdown_weights(net, torch.zeros(1, 3, 64, 64))
    assert topdown_stages(net) == [3] and weights[3].shape == (4, 4, 16)
    first, last = (m.topdown_attn for m in net.backbone.topdown["23"])
    with torch.no_grad():
        last.relative_position_init[5] = 9.0
        first.relative_position_init[6] = 9.0
    moved = topdown_weights(net, torch.zeros(1, 3, 64, 64))[3]
    assert moved[1, 1, 5] > 0.9 and moved[1, 1, 6] < 0.5


def test_zoom_keeps_pixels_square_and_inside() -> None:
    picture = np.arange(40 * 60 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 60, 3)
    part = zoom(picture, (-10, 30, 20))
    assert part.shape[0] * part.shape[1] > 0 and (part[0, 0] == picture[0, 18]).all()
