# SPDX-License-Identifier: Apache-2.0
"""Programs answer under their other names too."""

from __future__ import annotations

import runpy
import sys

import pytest

NAMES = {
    "datasets.check": "tools.check",
    "datasets.dt_offset": "tools.dt_offset",
    "network.summary": "tools.summary",
    "reports.attention": "tools.attention",
    "reports.deformable": "tools.deformable",
    "reports.domains": "tools.domains",
    "reports.label_noise": "tools.label_noise",
    "reports.sweep": "tools.sweep",
}


def help_of(module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> str:
    """What `python -m MODULE --help` prints."""
    monkeypatch.delitem(sys.modules, module, raising=False)  # runpy warns of imported ones
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert end.value.code in (None, 0)
    return str(capsys.readouterr().out)


@pytest.mark.parametrize(("old", "new"), NAMES.items())
def test_old_and_new_name_print_the_same_help(
    old: str, new: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    text = help_of(new, monkeypatch, capsys)
    assert text == help_of(old, monkeypatch, capsys)
    assert text.startswith(f"usage: python -m {new} ")
