# SPDX-License-Identifier: Apache-2.0
"""The page about deformable attention: places, directions, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from network import unept
from reports.sampling import (
    GAP,
    LEVEL_COLOURS,
    Sampling,
    direction_vectors,
    draw_directions,
    draw_sampling,
)
from tests.network.tiny import TINY, picture, tiny_net
from tests.network.tiny_unept import TinyDeiT, tiny, tiny_context
from tests.reports.chrome import Chrome
from tools.deformable import PAGE, SamplingTap, main, make_page, query_of

# Images below the window load only when they are needed.
ALL_DECODED = """Promise.all([...document.images].map(
    i => { i.loading = 'eager'; return i.decode(); })).then(all => all.length)"""


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """`unept.DeiT` is the tiny network of the tests."""
    monkeypatch.setattr(unept, "DeiTTrunk", TinyDeiT)
    monkeypatch.setattr(unept, "ContextBranch", tiny_context)


@pytest.fixture
def street(tmp_path: Path) -> Path:
    path = tmp_path / "street & <b>.png"
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """Weights alone, as an official file has them."""
    path = tmp_path / "iter_160000.pth"
    torch.save({"state_dict": tiny().state_dict(), "meta": {"iter": 160000}}, path)
    return path


def a_look() -> Sampling:
    places = np.full((2, 3, 4, 2), 0.75)
    places[0, 2] = -0.5
    weights = np.full((2, 3, 4), 1 / 12)
    return Sampling(query=(0.25, 0.5), places=places, weights=weights)


def test_shares_of_levels_and_of_the_outside_add_up() -> None:
    look = a_look()
    assert look.level_shares() == pytest.approx([1 / 3] * 3)
    assert look.outside() == pytest.approx(1 / 6)


def test_points_and_cross_are_drawn_where_they_are() -> None:
    drawn = draw_sampling(np.zeros((480, 480, 3), np.uint8), a_look(), (400, 480))
    panels = [drawn[:, start : start + 480] for start in range(0, 3 * (480 + GAP), 480 + GAP)]
    assert drawn.shape == (400, 3 * 480 + 2 * GAP, 3)
    for level, panel in enumerate(panels):
        assert panel[360, 360].tolist() == list(LEVEL_COLOURS[level])
        assert panel[240, 120].tolist() == [255, 255, 255] and not panel[:100].any()


def test_directions_turn_clockwise_from_left() -> None:
    vectors = direction_vectors(np.arange(8))
    want = [(-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1)]
    for vector, (x, y) in zip(vectors, want, strict=True):
        np.testing.assert_allclose(vector, np.array([x, y]) / np.hypot(x, y), atol=1e-12)


def test_arrows_stand_only_in_cells_near_a_boundary() -> None:
    near = np.zeros((6, 6))
    near[2, 3] = 0.9
    black, left = np.zeros((480, 480, 3), np.uint8), np.zeros((6, 6), np.int64)
    drawn = draw_directions(black, near, left, (480, 480))
    assert draw_directions(black, near, left, (100, 50)).shape == (100, 50, 3)
    rows, columns = np.nonzero(drawn.any(2))
    assert (rows.min(), rows.max()) == (160, 239) and (columns.min(), columns.max()) == (240, 319)
    arrow = drawn[..., 1] > 60
    columns = np.nonzero(arrow)[1]
    assert columns.min() < 250 and columns.max() > 300  # all along the cell
    assert arrow[:, :280].sum() > 1.5 * arrow[:, 280:].sum()  # its head is at the left


def test_the_tap_sees_what_the_network_samples() -> None:
    net = tiny().eval()
    attention = net.context_branch.decoder.layers[0].cross_attn
    tap, seen = SamplingTap(attention), []
    inner = attention.sampling
    attention.sampling = lambda *inputs: seen.append(inner(*inputs)) or seen[-1]
    with torch.inference_mode():
        net(picture(64, 64))
        look = tap.sampling(19)
    places, weights = seen[0]
    np.testing.assert_allclose(look.places, places[0, 19], atol=1e-5)
    np.testing.assert_allclose(look.weights, weights[0, 19], atol=1e-5)
    assert look.query == (3.5 / 8, 2.5 / 8)


def test_a_pixel_chooses_the_query_of_its_cell() -> None:
    assert query_of((15, 16), (40, 60), columns=8) == 2 * 8 + 1


def test_the_program_writes_a_page_that_works(
    narrow: None, street: Path, official: Path, tmp_path: Path, chrome: Chrome
) -> None:
    out = tmp_path / "looks"
    flags = ["--arch", "unept.DeiT", "--snapshot", str(official), "--image", str(street)]
    flags += ["--coords", "3", "4", "--coords", "69", "49", "--threshold", "0.1"]
    assert main([*flags, "--result_dir", str(out)]) == 0
    names = {path.name for path in out.iterdir()}
    layers = {f"query_{place}_layer1.png" for place in ("3_4", "69_49")}
    assert names == {PAGE, "directions.png", *layers}
    drawn = cv2.imread(str(out / "query_3_4_layer1.png"))
    factor = 8  # of enlarging the image of 50x70; three panels, without the padding
    assert drawn.shape == (50 * factor, 3 * 70 * factor + 2 * GAP, 3)
    assert cv2.imread(str(out / "directions.png")).shape == (50 * factor, 70 * factor, 3)
    chrome.open(out / PAGE, 1200)
    assert chrome.run(ALL_DECODED) == 3
    assert "street & <b>.png" in chrome.run("document.title")
    assert not chrome.problems


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--coords": "70 3"}, "--coords 70 3 is outside of the image of 70x50 pixels"),
        ({"--arch": ""}, "does not say which network it holds: give --arch"),
        ({"--arch": "unept.R51"}, "is no architecture; did you mean unept.R50?"),
        ({"--set": "MODEL.query_grid=7,9"}, "grid of this network is 7x9: use --set MODEL.query"),
        ({"--result_dir": "/proc/nowhere"}, "--result_dir /proc/nowhere cannot be written"),
        ({"--max_side": "0"}, "--max_side: 0 must be at least 1"),
        ({"--query_grid": "7"}, "unknown argument --query_grid"),
        ({"--coords": "here there"}, "argument --coords"),
        ({"--image": "absent.png"}, "absent.png: image cannot be read"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(
    narrow: None,
    street: Path,
    official: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    message: str,
) -> None:
    flags = {"--arch": "unept.DeiT", "--snapshot": str(official), "--image": str(street)}
    flags |= {"--coords": "3 4", "--result_dir": str(tmp_path / "looks"), **changes}
    words = [
        word
        for name, value in flags.items()
        if value
        for word in (name, *(value.split() if name == "--coords" else [value]))
    ]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_other_networks_are_refused(
    street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hrnet.pth"
    net = tiny_net("ocrnet.HRNet")
    torch.save({"state_dict": net.state_dict(), **own_facts("ocrnet.HRNet", **TINY)}, path)
    flags = ["--snapshot", str(path), "--image", str(street), "--coords", "1", "1"]
    assert main([*flags, "--result_dir", str(tmp_path / "o")]) == 2
    assert "--arch ocrnet.HRNet has no deformable attention" in capsys.readouterr().err


def own_facts(arch: str, **options: object) -> dict[str, object]:
    return {"arch": arch, "num_classes": 3, "dataset": "camvid", "model_options": options}


@pytest.mark.parametrize("trained", [False, True])
def test_boundaries_that_were_not_trained_are_not_shown(
    narrow: None, street: Path, tmp_path: Path, trained: bool
) -> None:
    path, out = tmp_path / "own.pth", tmp_path / "out"
    facts = own_facts("unept.DeiT", query_grid=[8, 8], boundary_heads=trained)
    torch.save({"state_dict": tiny().state_dict(), **facts}, path)
    flags = ["--snapshot", str(path), "--image", str(street), "--coords", "1", "1"]
    assert main([*flags, "--max_side", "35", "--result_dir", str(out)]) == 0
    assert (out / "directions.png").exists() == trained
    assert ("trained without --dt_offset_wt" in (out / PAGE).read_text()) != trained


def test_pictures_go_where_they_belong(tmp_path: Path) -> None:
    image = np.zeros((40, 64, 3), np.uint8)
    page = make_page(tiny().eval(), image, [(0, 0)], tmp_path / "a" / "b", title="t")
    assert page == tmp_path / "a" / "b" / PAGE and (page.parent / "directions.png").exists()
