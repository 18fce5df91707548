# SPDX-License-Identifier: Apache-2.0
"""The export program: what is in the folder, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from PIL import Image

from deploy import export as program
from deploy.compare import Check, require_same
from deploy.folder import new_folder
from deploy.predict import ExportedModel, ModelError
from network.build import build_net
from network.contract import Network
from runtime.errors import UserError
from tests.deploy.checkpoints import CLASSES, header_of, write_checkpoint
from tests.deploy.exports import export
from tests.deploy.red import changed, red_export
from tests.full_disk import REASON, full_after
from tests.network.tiny import tiny_net
from tests.program import ROOT, assert_one_line_error, environment


def small() -> Network:
    """A DeepLab that exports in a second or two."""
    net = tiny_net("deepv3.DeepV3R50")
    assert isinstance(net, Network)
    return net


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return red_export(tmp_path / "model")


def test_an_exported_model_gives_ids(folder: Path) -> None:
    image = np.zeros((5, 6, 3), np.uint8)
    image[2:, :, 0] = 200
    found = ExportedModel(folder, threads=1).run(image)
    assert found.shape == (5, 6) and found.dtype == np.uint8
    assert found[:2].max() == 0 and found[2:].min() == 1


def test_a_size_that_the_graph_does_not_take_is_refused(folder: Path) -> None:
    image = np.zeros((3, 6, 3), np.uint8)
    with pytest.raises(ModelError, match="an image of 6x3 pixels: this export takes 4x4 and more"):
        ExportedModel(folder).run(image)
    with pytest.raises(ModelError, match="6x3 pixels: this export takes 9x8 alone"):
        ExportedModel(changed(folder, size=[8, 9])).run(image)
    with pytest.raises(ModelError, match="multiples of 32"):
        ExportedModel(changed(folder, size=None, multiple=32, smallest=[1, 1])).run(image)


def test_what_is_no_image_is_refused(folder: Path) -> None:
    model = ExportedModel(folder)
    for wrong in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)):
        with pytest.raises(ModelError, match="type uint8 wanted"):
            model.run(wrong)


def test_an_export_of_another_version_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="has version 2, and 1 is read here"):
        ExportedModel(changed(folder, version=2))


def test_a_damaged_export_is_refused_in_one_line(folder: Path) -> None:
    for entries, words in (
        ({"format": "other"}, "is not of an export"),
        ({"format": "hiseg-export", "classes": 3}, "entry classes is 3"),
        ({"classes": ["a", "b"], "file_sha256": "00"}, "its SHA-256 is not the one"),
        ({"file_sha256": None, "kind": "pt2"}, "torch.export.load reads it"),
        ({"kind": "onnx", "file": "gone.onnx"}, "gone.onnx is missing"),
    ):
        with pytest.raises(ModelError, match=words) as caught:
            ExportedModel(changed(folder, **entries))
        assert "\n" not in str(caught.value)
    changed(folder, file="model.onnx")
    (folder / "model.onnx").write_bytes(b"torn")
    with pytest.raises(ModelError, match="model.onnx cannot be loaded"):
        ExportedModel(folder)
    (folder / "model.json").write_text("{")
    with pytest.raises(ModelError, match="model.json is damaged"):
        ExportedModel(folder)
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match="No such file or directory: .* is no export"):
        ExportedModel(folder)


def run(capsys: pytest.CaptureFixture[str], *flags: object) -> str:
    """The one line of a call that is refused."""
    assert program.main([str(flag) for flag in flags]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_wrong_calls_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    file = write_checkpoint(tmp_path / "a.safetensors", small())
    assert f"--out {tmp_path} exists" in run(capsys, "--snapshot", file, "--out", tmp_path)
    assert "needs weights: --snapshot FILE" in run(capsys, "--out", out)
    assert "--do_flip has no effect" in run(capsys, "--out", out, "--snapshot", file, "--do_flip")
    text = run(capsys, "--out", out, "--snapshot", file, "--size", "12")
    assert "--size: 12: HEIGHT,WIDTH in pixels wanted" in text
    assert "b.png: image cannot be read" in run(
        capsys, "--out", out, "--snapshot", file, "--image", tmp_path / "b.png"
    )
    assert "does not exist" in run(capsys, "--out", out, "--snapshot", tmp_path / "b.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_checkpoint_without_classes_needs_a_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "foreign.pth"
    torch.save(small().state_dict(), path)
    flags = ("--out", tmp_path / "out", "--snapshot", path, "--arch", "deepv3.DeepV3R50")
    assert "does not say what its classes are: add --dataset NAME" in run(capsys, *flags)


def test_a_classifier_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = build_net("segformer.B0_224", 3, stage_depths=(1, 1, 1, 1))
    header = {**header_of(net), "task": "classify"}
    file = write_checkpoint(tmp_path / "a.safetensors", net, header)
    assert "classifies whole images" in run(capsys, "--out", tmp_path / "o", "--snapshot", file)


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with pytest.raises(RuntimeError), new_folder(out) as made:
        (made / "half").write_text("")
        raise RuntimeError
    assert list(out.parent.iterdir()) == []
    with (
        pytest.raises(UserError, match=f"--out .*out cannot be written: {REASON}"),
        full_after(1000),
        new_folder(out) as made,
        (made / "half").open("wb") as file,
    ):
        file.write(bytes(2000))
    assert list(out.parent.iterdir()) == []
    with new_folder(out) as made:
        (made / "whole").write_text("")
    assert [path.name for path in out.iterdir()] == ["whole"] and out.stat().st_mode & 0o055


def test_more_than_one_pixel_in_ten_thousand_may_not_differ() -> None:
    facts = {"image": "a", "size": (10, 10), "noise": 0.0, "largest_difference": 0.0}
    require_same([Check(pixels=10_000, differing=1, decided=1, **facts)])
    with pytest.raises(UserError, match="2 of 10000 pixels differ from PyTorch"):
        require_same([Check(pixels=10_000, differing=2, decided=2, **facts)])


@pytest.mark.slow
def test_the_program_writes_a_folder_that_says_all_there_is_to_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, image = tiny_net("basic.HRNet"), tmp_path / "street.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 110, 3), np.uint8)).save(image)
    net.take_input_norm(net.input_norm._replace(mean=(0.5, 0.5, 0.5)))
    file = write_checkpoint(tmp_path / "a.safetensors", net)
    out = tmp_path / "out"
    flags = ["--snapshot", file, "--out", out, "--size", "64,96", "--image", image]
    code = program.main([str(flag) for flag in flags])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert "street.png at 96x64: 0 of 6144 pixels differ" in shown.out
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "model.onnx", "predict.py"]
    spec = json.loads((out / "model.json").read_text())
    assert spec["classes"] == list(CLASSES) and spec["ids"] == [7, 23, 26]
    assert spec["mean"] == [0.5, 0.5, 0.5] and spec["size"] == [64, 96]
    assert spec["check"]["differing"] == 0 and spec["check"]["image"] == "street.png"
    assert len(spec["snapshot"]["sha256"]) == 64 and spec["arch"] == "basic.HRNet"


@pytest.mark.slow
def test_a_program_of_torch_is_read_back_and_compared(tmp_path: Path) -> None:
    net = small()
    checks = export(net, tmp_path / "out", format="pt2", dynamic=True, output="scores")
    assert len(checks) == 5 and max(check.largest_difference for check in checks) < 1e-5
    again = torch.export.load(tmp_path / "out" / "model.pt2").module()
    assert again(torch.zeros(1, 70, 91, 3, dtype=torch.uint8)).shape == (1, 3, 70, 91)


@pytest.mark.slow
def test_half_precision_differs_by_no_more_than_its_rounding(tmp_path: Path) -> None:
    checks = export(small(), tmp_path / "out", size=(64, 96), precision="fp16")
    assert checks[0].decided == 0 and checks[0].noise > 0
    model = onnx.load(tmp_path / "out" / "model.onnx")
    kinds = {each.data_type for each in model.graph.initializer if len(each.dims) == 4}
    assert TensorProto.FLOAT16 in kinds and TensorProto.FLOAT not in kinds


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_a_full_disk_ends_an_export_in_one_line(kind: str, tmp_path: Path) -> None:
    net, out = tiny_net("basic.HRNet"), tmp_path / "out"
    file = write_checkpoint(tmp_path / "a.safetensors", net)
    call = f"ulimit -f 20; exec {sys.executable} -m deploy.export --snapshot {file} --out {out}"
    done = subprocess.run(
        ["bash", "-c", f"{call} --size 64,96 --format {kind}"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert_one_line_error(done, f"--out {out} cannot be written: {REASON}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
