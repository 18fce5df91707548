# SPDX-License-Identifier: Apache-2.0
"""Quantisation to 8 bits: scored before and after, refused where it costs too much."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F

from datasets import camvid
from datasets.base import read_item_image, read_item_label
from deploy import quantise as program
from deploy.export import Request, write
from deploy.loading import Loaded
from network.build import build_net
from network.contract import Network
from network.outputs import PRED
from settings import Settings
from tests.deploy.checkpoints import header_of, write_checkpoint
from tests.network.tiny import NARROW_HEADS, TINY
from transforms.normalize import to_network

STEPS = 40
OPTIONS = {key: value for key, value in TINY.items() if key.startswith("hrnet")}


def trained(root: Path) -> Network:
    """A tiny HRNet that has learned the colours of the classes."""
    torch.manual_seed(0)
    spec = camvid.SPEC
    net = build_net(
        "basic.HRNet", spec.num_classes, segattn_bot_ch=NARROW_HEADS["segattn_bot_ch"], **OPTIONS
    )
    items = camvid.list_items(root, "train")
    images = to_network(torch.from_numpy(np.stack([read_item_image(item) for item in items])))
    labels = np.stack([read_item_label(item, spec) for item in items])
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimiser.zero_grad()
        target = torch.from_numpy(labels.astype(np.int64))
        F.cross_entropy(net(images)[PRED], target, ignore_index=spec.ignore_label).backward()
        optimiser.step()
    return net.eval()


@pytest.fixture(scope="module")
def model(camvid_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a trained network."""
    place = tmp_path_factory.mktemp("quantise")
    net, folder = trained(camvid_root), place / "fp32"
    folder.mkdir()
    file = write_checkpoint(place / "a.safetensors", net, header_of(net, camvid.SPEC.class_names))
    loaded = Loaded(net=net, spec=camvid.SPEC, settings=Settings(), file=file)
    write(Request(size=(64, 96)), loaded, folder)
    return folder


def flags(model: Path, root: Path, out: Path, *more: str) -> list[str]:
    """A call that quantises `model`."""
    data = ["--dataset", "camvid", "--set", f"DATASET.CAMVID_DIR={root}"]
    return [str(model), "--out", str(out), "--calibrate", str(root / "train"), *data, *more]


@pytest.mark.slow
def test_a_quantised_export_is_scored_and_keeps_its_classes(
    model: Path, camvid_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "int8"
    code = program.main(flags(model, camvid_root, out, "--max_drop", "3"))
    shown = capsys.readouterr()
    assert code == 0, shown.err
    lines = [line.split() for line in shown.out.splitlines()]
    scores = {words[0]: float(words[1]) for words in lines if words[0] in ("fp32", "int8")}
    spec = json.loads((out / "model.json").read_text())
    found = spec["quantised"]
    assert found["images"] == 2 and found["calibration_images"] == 4
    assert scores["fp32"] == pytest.approx(found["fp32"]["mean_iu"], abs=0.01)
    assert scores["fp32"] > 8  # a constant answer reaches 1
    assert scores["fp32"] - scores["int8"] <= 3
    assert spec["precision"] == "int8" and spec["classes"] == list(camvid.SPEC.class_names)
    kinds = [node.op_type for node in onnx.load(out / "model.onnx").graph.node]
    assert kinds.count("QuantizeLinear") > 20
    assert "is in int8: one in fp32 is wanted" in refused(
        flags(out, camvid_root, tmp_path / "again"), capsys
    )


def refused(call: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a call that is refused."""
    assert program.main(call) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.slow
def test_too_large_a_loss_writes_nothing(
    model: Path,
    camvid_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    black = tmp_path / "black"
    black.mkdir()
    import cv2

    cv2.imwrite(str(black / "a.png"), np.zeros((64, 96, 3), np.uint8))
    out = tmp_path / "int8"
    call = flags(model, camvid_root, out, "--max_drop", "0")
    call[call.index("--calibrate") + 1] = str(black)
    line = refused(call, capsys)
    assert "points of mIoU on camvid" in line and "more than --max_drop 0" in line
    assert [path.name for path in tmp_path.iterdir()] == ["black"]


@pytest.mark.slow
def test_wrong_calls_are_refused(
    model: Path,
    camvid_root: Path,
    cityscapes_call: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "int8"
    whole = flags(model, camvid_root, out)
    assert "--dataset NAME is wanted" in refused(whole[:5], capsys)
    whole[whole.index("--calibrate") + 1] = str(tmp_path / "none")
    assert "no such folder" in refused(whole, capsys)
    other = [*flags(model, camvid_root, out)[:5], *cityscapes_call]
    assert "has 19 classes (road, sidewalk, building, ...)" in refused(other, capsys)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def cityscapes_call(street_root: Path) -> list[str]:
    """Flags of a set with other classes."""
    return ["--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={street_root}"]
