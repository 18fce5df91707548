# SPDX-License-Identifier: Apache-2.0
"""The example of docs/adding_an_arch.md is a working architecture."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest
import torch

from engine.auxiliary import freeze_auxiliary, has_auxiliary
from network import build
from network.contract import run_boundary_in_eval
from tests.network.tiny import enliven, picture

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "adding_an_arch.md"


def code_of_the_page() -> str:
    """The Python of the page."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    return code[1]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of the page as network.plain, listed as the page says."""
    module = types.ModuleType("network.plain")
    monkeypatch.setitem(sys.modules, "network.plain", module)
    exec(compile(code_of_the_page(), "network/plain.py", "exec"), vars(module))
    monkeypatch.setattr(build, "ARCH_MODULES", (*build.ARCH_MODULES, "plain"))


@pytest.mark.parametrize("arch", ["plain.Plain", "plain.Plain_Mscale"])
def test_the_example_is_listed_trains_and_predicts(arch: str) -> None:
    assert "plain.Plain" in build.list_archs()
    net = build.build_net(arch, 3)
    enliven(net)
    outputs = net.train()(picture(65, 97, batch=2))
    sum(value.square().mean() for value in outputs.values()).backward()
    assert all(item.grad is not None for item in net.parameters())
    assert set(net.eval()(picture(65, 97))) == {"pred"}
    assert net(picture(65, 97))["pred"].shape == (1, 3, 65, 97)


@pytest.mark.parametrize(("arch", "prefix"), [("plain.Plain", ""), ("plain.Plain_Mscale", "net.")])
@pytest.mark.parametrize("declared", [True, False])
def test_its_auxiliary_head_is_known_by_name_or_by_what_it_outputs(
    arch: str, prefix: str, declared: bool
) -> None:
    net = build.build_net(arch, 3)
    if not declared:
        net.one_scale.auxiliary_parts = None
    before = {name: value.clone() for name, value in net.state_dict().items()}
    noise = torch.random.get_rng_state()
    assert has_auxiliary(net)
    freeze_auxiliary(net)
    frozen = [name for name, item in net.named_parameters() if not item.requires_grad]
    assert frozen == [f"{prefix}early_scores.weight", f"{prefix}early_scores.bias"]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), noise)


@pytest.mark.parametrize("arch", ["plain.Plain", "plain.Plain_Mscale"])
def test_it_is_trained_on_boundaries(arch: str) -> None:
    torch.manual_seed(0)
    net = build.build_net(arch, 3, boundary_heads=True)
    enliven(net)
    copied = copy.deepcopy(net)
    for each in (net, copied):
        outputs = each.train()(picture(64, 96, batch=2))
        assert outputs["mask"].shape[:2] == (2, 2) and outputs["dir"].shape[:2] == (2, 8)
        (outputs["mask"].sum() + outputs["dir"].sum()).backward()
        heads = [item for name, item in each.named_parameters() if "boundary." in name]
        assert heads and all(item.grad is not None for item in heads)
    with torch.no_grad():
        plain = net.eval()(picture())
        run_boundary_in_eval(net)
        asked = net(picture())
    assert set(plain) == {"pred"} and set(asked) == {"pred", "mask", "dir"}
    assert torch.equal(plain["pred"], asked["pred"])


def test_its_one_scale_form_is_wrapped_by_name() -> None:
    net = build.build_net("plain.Plain_Mscale", 3)
    enliven(net)
    assert {"pred", "pred_05x", "attn_05x", "aux"} <= set(net.train()(picture(batch=2)))


@pytest.mark.slow
def test_the_commands_of_the_page_run_in_a_fresh_copy(tmp_path: Path) -> None:
    tree = tmp_path / "hiseg"
    leave = shutil.ignore_patterns(".*", "__pycache__", "data", "logs", "assets", "tests")
    shutil.copytree(ROOT, tree, ignore=leave)
    (tree / "network" / "plain.py").write_text(code_of_the_page(), encoding="utf-8")
    modules = tree / "network" / "build.py"
    text = modules.read_text(encoding="utf-8")
    listed = text.replace("ARCH_MODULES = (\n", 'ARCH_MODULES = (\n    "plain",\n')
    assert listed != text
    modules.write_text(listed, encoding="utf-8")
    blocks = re.findall(r"(?:^ {7}\S.*\n(?: {8,}.*\n)*)+", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(blocks) == 1 and "train.py" in blocks[0] and "eval.py" in blocks[0]
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("HISEG_")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    for more in ("", "--arch plain.Plain --aux_weight 0 --result_dir logs/one\n"):
        commands = textwrap.dedent(blocks[0])
        if more:  # the same at one scale, without the auxiliary loss
            train = commands[commands.index("python train.py") : commands.index("python eval.py")]
            commands = f"export HISEG_SYNTHETIC_DIR=data/synthetic\n{train.rstrip()} {more}"
        result = subprocess.run(
            ["bash", "-ec", commands],
            cwd=tree, env=environment, text=True, capture_output=True, timeout=300,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        log = (tree / "logs" / ("one" if more else "plain") / "logging.log").read_text()
        assert (" aux " in log) is not bool(more)
        assert " mask " in log and " moved " in log


def test_its_multi_scale_form_takes_other_scales() -> None:
    net = build.build_net("plain.Plain_Mscale", 3, n_scales=(0.5, 1.0, 2.0)).eval()
    enliven(net)
    assert {"pred", "pred_05x", "attn_05x", "pred_20x"} <= set(net(picture(), return_all=True))
