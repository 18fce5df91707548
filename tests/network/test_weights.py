# SPDX-License-Identifier: Apache-2.0
"""The table of known weights against the libraries that list them, and what a file is."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from network import identify as module
from network.build import is_classifier, resolve_arch
from network.fetch.hub import parse
from network.fetch.web import HEX
from network.identify import identify
from network.known import Known, find, matching, read_table
from runtime.errors import UserError
from settings import read_settings
from tools import weights

TABLE = read_table()


def rows(scheme: str) -> list[Known]:
    found = [row for row in TABLE if row.where.startswith(scheme)]
    assert found
    return found


def test_every_row_names_an_architecture_a_flag_and_a_licence() -> None:
    assert len({row.where for row in TABLE}) == len(TABLE) > 60
    for row in TABLE:
        assert row.use in ("snapshot", "pretrained") and row.licence and row.data, row
        arch, *flags = row.arch.split()
        if flags:  # a trunk of timm under a head of this program
            assert row.where.removeprefix("timm:").split(".")[0] == flags[-1], row
        else:
            assert not is_classifier(resolve_arch(arch)), row


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.where)
def test_the_command_of_every_row_names_a_network_and_its_trunk(row: Known) -> None:
    _, program, *flags, dots = row.lines()[-1].split()[1:]
    assert (program, dots) == ("eval.py" if row.use == "snapshot" else "train.py", "...")
    told = read_settings([*flags, "--eval", "val"] if row.use == "snapshot" else flags)
    assert told.network.arch == resolve_arch(told.network.arch)
    assert row.where == (told.network.snapshot or told.MODEL.pretrained)
    assert not told.MODEL.trunk or timm.is_model(told.MODEL.trunk)


def test_a_score_has_a_protocol_and_a_source() -> None:
    for row in TABLE:
        assert not row.score or (row.protocol and row.source), row


def test_rows_of_the_hub_name_a_repository() -> None:
    for row in rows("hf:"):
        repo, file, _ = parse(row.where)
        assert repo.count("/") == 1 and not file, row


def test_rows_of_timm_are_what_timm_says() -> None:
    for row in rows("timm:"):
        config = timm.models.get_pretrained_cfg(row.where.removeprefix("timm:"))
        assert config is not None and (config.hf_hub_id or config.url), row
        assert config.license == row.licence, row


def test_rows_of_torchvision_are_what_torchvision_says() -> None:
    for row in rows("torchvision:"):
        model, tag = row.where.removeprefix("torchvision:").split(".")
        chosen = torchvision.models.get_model_weights(model)[tag]
        accuracy = chosen.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        assert row.score == f"{accuracy} top-1", row


def test_a_hash_in_the_table_is_one() -> None:
    assert all(HEX.fullmatch(row.sha256) for row in TABLE if row.sha256)


def test_a_row_is_found_by_its_end_or_a_part_of_its_own() -> None:
    assert find("mit-b0", TABLE).where == "hf:nvidia/mit-b0"
    assert find("segformer-b5-finetuned-ADE", TABLE).arch == "segformer.B5"
    with pytest.raises(UserError, match="did you mean mit-b5"):
        find("mit-b9", TABLE)
    with pytest.raises(UserError, match="hrnet_w18 could be 2 rows of the table: timm:"):
        find("hrnet_w18", TABLE)


def test_words_filter_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    found = matching("segformer ADE snapshot", TABLE)
    assert len(found) == 6 and all("ade" in row.where for row in found)
    assert weights.main(["list", "segformer", "ade", "snapshot"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7 and lines[0].startswith("for --arch")
    assert "segformer.B0" in lines[1] and "37.4 mIoU" in lines[1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["list", "nothing", "of", "that"], "no row of the table has 'nothing of that'"),
        (["show"], "show: one name wanted, got 0"),
        (["show", "mit-b9"], "mit-b9 is not in the table"),
        (["fetch", "timm:hrnet_w19"], "timm knows no hrnet_w19"),
        (["check", "missing.pth"], "checkpoint missing.pth does not exist"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert weights.main(arguments) == 2
    shown = capsys.readouterr()
    assert text in shown.err and shown.err.count("\n") == 1


def test_show_prints_licence_protocol_and_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert weights.main(["show", "segformer-b0-finetuned-cityscapes-1024-1024"]) == 0
    text = capsys.readouterr().out
    assert "76.2 mIoU" in text and "windows of 1024x1024" in text and "research and" in text
    assert "python eval.py --arch segformer.B0 --snapshot hf:nvidia/segformer-b0-" in text


def test_fetch_prints_where_the_file_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = Path(torch.hub.get_dir()) / "checkpoints" / "resnet50_a1_0-14fe96d1.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert weights.main(["fetch", "resnet50.a1_in1k"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(path) and lines[2] == "licence   apache-2.0"
    assert "--arch deepv3.DeepV3PlusR50 --pretrained timm:resnet50.a1_in1k" in lines[3]


@pytest.fixture
def few_archs(monkeypatch: pytest.MonkeyPatch) -> None:
    """All architectures take ten seconds."""
    names = ["segformer.B0", "segformer.B1", "segformer.B0_224", "hila.B0_S3", "mscale.DeepV3R50"]
    monkeypatch.setattr(module, "list_archs", lambda: names)


def test_check_says_what_a_folder_is_and_who_takes_it(
    few_archs: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "models--nvidia--segformer-b0-finetuned-ade-512-512" / "snapshots" / "0"
    names = {number: f"thing {number}" for number in range(9)}
    net = SegformerForSemanticSegmentation(SegformerConfig(num_labels=9, id2label=names))
    net.save_pretrained(folder)
    capsys.readouterr()
    assert weights.main(["check", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("SegformerForSemanticSegmentation in the layout transformers")
    assert "9: thing 0, thing 1" in lines[2] and "NVIDIA Source Code License" in lines[3]
    assert lines[4].split() == ["--snapshot", "--arch", "segformer.B0"]
    assert lines[5].split() == ["--pretrained", "--arch", "segformer.B0,", "hila.B0_S3"]
    (folder / "README.md").write_text("---\ntags:\n- x\nlicense: apache-2.0\n---\n# Net\n")
    assert weights.main(["check", str(folder)]) == 0
    assert "apache-2.0 (its card)" in capsys.readouterr().out
    alone = identify(str(folder / "model.safetensors"))
    assert (alone.classes, alone.snapshot) == (9, ("segformer.B0",))


def test_check_knows_a_classifier_and_weights_of_nobody(few_archs: None, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(importlib.import_module("torchvision.models").resnet50().state_dict(), path)
    found = identify(str(path))
    assert (found.classes, found.snapshot) == (1000, ())
    assert found.pretrained == ("mscale.DeepV3R50",)
    torch.save({"x.weight": torch.ones(2, 2)}, path)
    found = identify(str(path))
    assert (found.classes, found.snapshot, found.pretrained) == (None, (), ())


def test_check_names_the_trunk_of_timm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "list_archs", lambda: ["segformer.B0", "timm.OCR"])
    net = timm.create_model("test_vit")
    torch.save(net.state_dict(), tmp_path / "test_vit.r160_in1k.pth")
    found = identify(str(tmp_path / "test_vit.r160_in1k.pth"))
    assert (found.snapshot, found.pretrained) == ((), ("timm.OCR --trunk test_vit",))
    folder = tmp_path / "hub"
    folder.mkdir()
    safetensors.torch.save_file(net.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text('{"architecture": "test_vit", "num_classes": 1000}')
    found = identify(str(folder))
    assert (found.kind, found.classes) == ("test_vit in the layout timm", 1000)
    assert found.pretrained == ("timm.OCR --trunk test_vit",)
