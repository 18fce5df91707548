# SPDX-License-Identifier: Apache-2.0
"""The example of docs/adding_an_arch.md is a working architecture."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from network import build
from tests.network.tiny import enliven, picture

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "adding_an_arch.md"


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of the page as network.plain, listed as the page says."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    module = types.ModuleType("network.plain")
    monkeypatch.setitem(sys.modules, "network.plain", module)
    exec(compile(code[1], "network/plain.py", "exec"), vars(module))
    monkeypatch.setattr(build, "ARCH_MODULES", (*build.ARCH_MODULES, "plain"))


@pytest.mark.parametrize("arch", ["plain.Plain", "plain.Plain_Mscale"])
def test_the_example_is_listed_trains_and_predicts(arch: str) -> None:
    assert arch in build.list_archs()
    net = build.build_net(arch, 3)
    enliven(net)
    outputs = net.train()(picture(65, 97, batch=2))
    sum(value.square().mean() for value in outputs.values()).backward()
    assert all(item.grad is not None for item in net.parameters())
    assert set(net.eval()(picture(65, 97))) == {"pred"}
    assert net(picture(65, 97))["pred"].shape == (1, 3, 65, 97)


def test_its_multi_scale_form_takes_other_scales() -> None:
    net = build.build_net("plain.Plain_Mscale", 3, n_scales=(0.5, 1.0, 2.0)).eval()
    enliven(net)
    assert {"pred", "pred_05x", "attn_05x", "pred_20x"} <= set(net(picture(), return_all=True))
