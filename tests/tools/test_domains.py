# SPDX-License-Identifier: Apache-2.0
"""reports.domains: one network on sets of other classes, by the real program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import camvid, cityscapes
from datasets.common_classes import read_table
from network.build import build_net
from network.contract import Network
from tests.deploy.checkpoints import header_of, write_checkpoint
from tests.network.tiny import TINY, enliven
from tests.program import assert_one_line_error, run
from tools.domains import main


def domains(snapshot: Path, out: Path, *flags: str, ranks: int = 1) -> Any:
    """Run the program; all files go below `out`."""
    shared = ["--snapshot", str(snapshot), "--result_dir", str(out), "--num_workers", "0"]
    return run("-m", "reports.domains", *shared, *flags, ranks=ranks)


def content(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "domains.json").read_text())
    return found


@pytest.fixture(scope="module")
def camvid_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the classes of CamVid, whose predictions vary."""
    return written(tmp_path_factory.mktemp("net") / "camvid.safetensors", camvid.SPEC.class_names)


def written(path: Path, names: tuple[str, ...], **entries: Any) -> Path:
    """A checkpoint of these classes, none of which the network prefers."""
    torch.manual_seed(0)
    net = build_net("ocrnet.HRNet", len(names), **TINY)
    assert isinstance(net, Network)
    enliven(net)
    net.eval()
    with torch.no_grad():
        head = net.get_submodule("ocr.cls_head")
        head.bias -= net(torch.randn(1, 3, 64, 96))["pred"].mean((0, 2, 3))
    facts = {"dataset": "camvid", "custom": False, "positions": True, **entries}
    return write_checkpoint(path, net, {**header_of(net, names), **facts})


@pytest.fixture(scope="module")
def roots(street_root: Path, camvid_root: Path) -> list[str]:
    """The flags that say where two sets are."""
    places = {"SYNTHETIC_DIR": street_root, "CAMVID_DIR": camvid_root}
    return [word for key, path in places.items() for word in ("--set", f"DATASET.{key}={path}")]


def by_hand(snapshot: Path, root: Path, split: str) -> dict[str, float]:
    """IoU of CamVid's classes on the synthetic streets, pixel by pixel."""
    from deploy import Predictor

    predictor, meaning = Predictor(snapshot), read_table().rows["camvid"]
    names, right, wrong = camvid.SPEC.class_names, np.zeros(11), np.zeros(11)
    own = {
        raw: cityscapes.SPEC.class_names[train]
        for raw, train in cityscapes.SPEC.id_to_train_id.items()
        if train != 255
    }
    for image in sorted((root / "leftImg8bit_trainvaltest/leftImg8bit" / split).rglob("*.png")):
        place = str(image).replace(
            "leftImg8bit_trainvaltest/leftImg8bit", "gtFine_trainvaltest/gtFine"
        )
        label = np.asarray(Image.open(place.replace("_leftImg8bit.png", "_gtFine_labelIds.png")))
        ids = predictor.predict(image).ids
        counted = np.isin(label, [raw for raw, name in own.items() if name != "train"])
        for number, name in enumerate(names):
            wanted = np.isin(label, [raw for raw, each in own.items() if each in meaning[name]])
            found = (ids == number) & counted
            right[number] += (wanted & found).sum()
            wrong[number] += (wanted ^ found).sum()
    with np.errstate(invalid="ignore"):
        return dict(zip(names, right / (right + wrong), strict=True))


@pytest.mark.slow
def test_every_number_is_that_of_eval_py_and_of_a_count_by_hand(
    camvid_net: Path, roots: list[str], street_root: Path, tmp_path: Path
) -> None:
    sets = ["--sets", "synthetic,gtav,camvid", "--eval", "test", *roots]
    done = domains(camvid_net, tmp_path / "out", *sets)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gtav is left out: DATASET.GTAV_DIR is not set; set it with" in done.stdout
    found = content(tmp_path / "out")
    assert found["sets"]["gtav"]["problem"].startswith("DATASET.GTAV_DIR is not set")

    own = ["--dataset", "camvid", "--eval", "test", "--num_workers", "0", *roots]
    evaluated = run(
        "eval.py", "--snapshot", str(camvid_net), "--result_dir", str(tmp_path / "eval"), *own
    )
    assert evaluated.returncode == 0, evaluated.stdout
    results = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert found["sets"]["camvid"]["mean_iu"] == results["metrics"]["mean_iu"]
    assert found["sets"]["camvid"]["acc"] == results["metrics"]["acc"]
    ious = {row["classes"][0]: row["sets"]["camvid"]["iou"] for row in found["rows"]}
    assert ious == {each["name"]: each["iou"] for each in results["classes"]}

    wanted = by_hand(camvid_net, street_root, "test")
    for row in found["rows"]:
        iou = row["sets"]["synthetic"]["iou"]
        np.testing.assert_equal(np.nan if iou is None else iou, wanted[row["classes"][0]])
    assert len(set(wanted.values())) > 4, "the network must be lively"


@pytest.mark.slow
def test_finished_sets_are_not_evaluated_again_and_ranks_agree(
    camvid_net: Path, roots: list[str], tmp_path: Path
) -> None:
    first = domains(camvid_net, tmp_path, "--sets", "camvid,synthetic", *roots, ranks=2)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "already evaluated" not in first.stdout and "synthetic: 4 images" in first.stdout
    before = (tmp_path / "domains" / "camvid.json").read_bytes()
    table = first.stdout[first.stdout.index("IoU %") :]

    again = domains(camvid_net, tmp_path, "--sets", "camvid,synthetic", *roots)
    assert again.stdout.count("already evaluated") == 2
    assert "parameters" not in again.stdout, "the network is not even built"
    assert again.stdout[again.stdout.index("IoU %") :] == table
    assert (tmp_path / "domains" / "camvid.json").read_bytes() == before

    other = domains(camvid_net, tmp_path, "--sets", "camvid", *roots, "--do_flip")
    assert "already evaluated" not in other.stdout and other.returncode == 0
    counts, old = (
        json.loads(text)["counts"]
        for text in ((tmp_path / "domains" / "camvid.json").read_bytes(), before)
    )
    assert counts != old and np.sum(counts) == np.sum(old)


@pytest.mark.slow
def test_networks_and_sets_of_your_own_are_compared_by_a_file_of_their_classes(
    roots: list[str], camvid_root: Path, tmp_path: Path
) -> None:
    own = {"dataset": "harbour", "custom": True}
    net = written(tmp_path / "own.safetensors", ("road", "lamps", "quay"), **own)
    described = tmp_path / "mine.yml"
    described.write_text(
        f"name: garden\nroot: {camvid_root}\nnames: [sky, lights, way]\n"
        "ids: {0: 0, 6: 1, 3: 2, 1: 255, 2: 255, 4: 255, 5: 255, 7: 255, 8: 255, 9: 255, 10: 255,"
        " 11: 255}\nsplits: {val: {images: val, labels: valannot}}\n"
    )
    flags = ["--sets", "custom,synthetic", *roots, "--set", f"DATASET.CUSTOM_YAML={described}"]
    classes = tmp_path / "classes.yml"
    classes.write_text(
        "harbour: {road: road, lamps: [traffic light, traffic sign], quay: []}\n"
        "garden: {sky: sky, lights: [traffic light], way: [road, sidewalk]}\n"
    )
    done = domains(net, tmp_path / "file", *flags, "--classes", str(classes))
    assert done.returncode == 0, done.stdout
    found = content(tmp_path / "file")
    cells = {row["classes"][0]: row["sets"] for row in found["rows"]}
    assert cells["lamps"]["synthetic"]["classes"] == ["traffic light", "traffic sign"]
    assert cells["lamps"]["custom"]["classes"] == ["lights"]
    assert not cells["lamps"]["custom"]["exact"] and cells["lamps"]["synthetic"]["exact"]
    assert found["sets"]["custom"]["not_compared"] == ["sky"]
    assert "≈: the set and the network draw the line elsewhere" in done.stdout


@pytest.mark.slow
def test_what_cannot_be_evaluated_is_one_line(
    camvid_net: Path, roots: list[str], tmp_path: Path
) -> None:
    done = domains(camvid_net, tmp_path / "a", "--sets", "gtav,bdd100k")
    assert_one_line_error(done, "none of --sets can be evaluated")
    strange = written(tmp_path / "b.safetensors", ("a", "b"), dataset="mine", custom=True)
    done = domains(strange, tmp_path / "b", "--sets", "camvid", *roots)
    assert_one_line_error(done, "none of its classes (a, b", "--classes FILE")
    assert not (tmp_path / "b" / "domains.html").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--sets", "camvid,cityscape"], "'cityscape' is no data set with labels; did you mean"),
        (["--sets", "camvid,imagenet"], "'imagenet' is no data set with labels"),
        (["--sets", "camvid,camvid"], "camvid stands there twice"),
        (["--dump_ids", "raw"], "--dump_ids has no effect on python -m tools.domains"),
        (["--eval", "folder", "--eval_folder", "."], "--eval folder: val or trn or test wanted"),
        (["--sets", "camvid", "--seta", "x"], "unknown argument --seta"),
    ],
)
def test_wrong_flags_are_one_line(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--snapshot", "net.pth", *flags]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and words in lines[0]
