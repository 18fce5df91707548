# SPDX-License-Identifier: Apache-2.0
"""A network belongs to one task; the other one refuses it and names the way."""

from __future__ import annotations

import pytest

from assembly.network import check_arch
from config import UserError
from network.build import list_archs, list_classifiers
from settings import Settings
from settings.catalogue import with_values


def check(arch: str, task: str) -> None:
    check_arch(with_values(Settings(), {"arch": arch, "task": task}))


def test_every_classifier_is_an_architecture() -> None:
    assert set(list_classifiers()) <= set(list_archs())
    assert {"hrvit.b1_224", "segformer.B0_224", "swin.T_224"} <= set(list_classifiers())


def test_networks_are_accepted_for_their_own_task() -> None:
    check("hrvit.b1_224", "classify")
    check("network.hrvit.b1_SegFormer", "segment")


@pytest.mark.parametrize(
    ("arch", "task", "message"),
    [
        ("ocrnet.HRNet", "classify", "ocrnet.HRNet is no classifier; .*--arch help lists them"),
        ("segformer.B0", "classify", "no classifier; did you mean segformer.B0_224"),
        ("hrvit.b1_224", "segment", "hrvit.b1_224 is a classifier: it needs --task classify"),
        ("hrvit.b1_22", "classify", "hrvit.b1_22 is no architecture; did you mean hrvit.b1_224"),
    ],
)
def test_networks_of_the_other_task_are_one_line(arch: str, task: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        check(arch, task)
    assert "\n" not in str(error.value)
