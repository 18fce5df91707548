# SPDX-License-Identifier: Apache-2.0
"""`--snapshot` and `--pretrained` with names to fetch: downloads, and what a run remembers."""

from __future__ import annotations

import hashlib
import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from assembly.snapshot import Snapshot
from assembly.weights import fetch_weights
from network.convert.checkpoint import read_checkpoint
from runtime.distributed import World
from runtime.errors import UserError
from settings import read_settings
from tests.network.tiny import tiny_net
from tests.program import TINY, run, street_flags
from tests.web_server import COMMIT, Site, serving

ALONE = World(rank=0, size=1, local_rank=0, device=torch.device("cpu"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with serving(Site()) as running:
        yield running


def trunk_file() -> bytes:
    """ImageNet weights of the trunk that `TINY` describes."""
    net = tiny_net("ocrnet.HRNet_Mscale", seed=3)
    buffer = io.BytesIO()
    torch.save(net.trunk.state_dict(), buffer)
    return buffer.getvalue()


def test_remote_names_are_not_taken_for_paths() -> None:
    for name in ("hf:~a/b", "timm:ASSETS_PATH", "torchvision:resnet50", "https://~/ASSETS_PATH"):
        settings = read_settings(["--snapshot", name])
        assert settings.network.snapshot == name
        assert read_settings(["--pretrained", name]).MODEL.pretrained == name


def test_settings_keep_the_typed_name_and_weights_know_the_file(site: Site) -> None:
    site.files["/net.pth"] = b"weights"
    url, lines = f"{site.url}/net.pth", []
    settings = read_settings(["--pretrained", url])
    weights = fetch_weights(settings, ALONE, lines.append)
    local = weights.localised(settings)
    assert settings.MODEL.pretrained == url
    assert Path(local.MODEL.pretrained).read_bytes() == b"weights"
    revision = f"sha256:{hashlib.sha256(b'weights').hexdigest()}"
    assert weights.facts == {"fetched": {"pretrained": {"name": url, "revision": revision}}}
    assert lines[-1].startswith(f"--pretrained {url}: {revision}, /")


def test_a_resumed_training_fetches_no_start(site: Site) -> None:
    settings = read_settings(["--pretrained", "http://127.0.0.1:9/net.pth", "--resume", "auto"])
    origin = {"pretrained": {"name": "hf:a/b", "revision": "0" * 40}}
    resumed = Snapshot("x.pth", {}, {"fetched": origin})
    weights = fetch_weights(settings, ALONE, print, resumed)
    assert weights.facts == {"fetched": origin}
    assert weights.localised(settings).MODEL.pretrained == ""


def test_files_of_this_machine_leave_no_trace() -> None:
    settings = read_settings(["--pretrained", "some.pth"])
    weights = fetch_weights(settings, ALONE, print)
    assert weights.facts == {} and weights.localised(settings) == settings


def test_what_cannot_be_had_is_one_line_with_the_flag(site: Site) -> None:
    settings = read_settings(["--snapshot", f"{site.url}/net.pth"])
    with pytest.raises(UserError, match="^--snapshot http.*net.pth: the server answers 404"):
        fetch_weights(settings, ALONE, print)


@pytest.mark.slow
def test_two_ranks_download_once_and_the_training_goes_on_without_network(
    site: Site, street_root: Path, tmp_path: Path
) -> None:
    site.files["/trunk.pth"] = content = trunk_file()
    url, directory = f"{site.url}/trunk.pth", tmp_path / "run"
    flags = [*TINY, *street_flags(street_root, directory), "--pretrained", url, "--crop_size",
             "32,64", "--max_epoch", "1", "--val_freq", "9", "--lr", "0.01"]  # fmt: skip
    done = run("train.py", *flags, ranks=2, TORCH_HOME=str(tmp_path / "torch"))
    assert done.returncode == 0, done.stderr
    assert [ask for ask in site.asked if ask[0] == "GET"] == [("GET", "/trunk.pth", None)]
    fetched = {"name": url, "revision": f"sha256:{hashlib.sha256(content).hexdigest()}"}
    told = json.loads((directory / "run.json").read_text())
    assert told["fetched"] == {"pretrained": fetched}
    assert told["config"]["MODEL"]["pretrained"] == url
    (file,) = directory.glob("last_checkpoint_ep*.pth")
    kept = read_checkpoint(file)
    assert kept["fetched"] == {"pretrained": fetched}
    assert kept["model_options"]["pretrained"] == url
    del site.files["/trunk.pth"]
    flags[flags.index("--max_epoch") + 1] = "2"
    done = run("train.py", *flags, "--resume", "auto", ranks=2, TORCH_HOME=str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "new").exists()
    (file,) = directory.glob("last_checkpoint_ep*.pth")
    assert read_checkpoint(file)["fetched"] == {"pretrained": fetched}


@pytest.mark.slow
def test_a_folder_is_predicted_with_a_network_of_the_hub(site: Site, tmp_path: Path) -> None:
    names = {number: f"thing {number}" for number in range(5)}
    net = SegformerForSemanticSegmentation(SegformerConfig(num_labels=5, id2label=names))
    net.save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "saved").iterdir():
        site.put("owner/net", path.name, path.read_bytes())
    (tmp_path / "images").mkdir()
    picture = np.random.default_rng(0).integers(0, 255, (40, 64, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "images" / "x.png")
    hub = {"HF_ENDPOINT": site.url, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_XET": "1"}
    flags = ["--snapshot", "hf:owner/net", "--eval", "folder", "--eval_folder",
             str(tmp_path / "images"), "--num_workers", "0", "--device", "cpu"]  # fmt: skip
    done = run("eval.py", *flags, "--result_dir", str(tmp_path / "run"), **hub)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["fetched"] == {"snapshot": {"name": "hf:owner/net", "revision": COMMIT}}
    assert told["flags"]["snapshot"] == "hf:owner/net"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        hub["HF_ENDPOINT"] = f"http://127.0.0.1:{free.getsockname()[1]}"
    hub["HF_HOME"] = str(tmp_path / "empty")
    done = run("eval.py", *flags, "--result_dir", str(tmp_path / "other"), **hub)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "--snapshot hf:owner/net is not in the cache and cannot be downloaded" in done.stderr
