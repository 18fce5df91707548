# SPDX-License-Identifier: Apache-2.0
"""What `--trunk` means: the trunk of timm.* architectures, and nothing in published lines."""

from __future__ import annotations

import pytest

from config import UserError
from settings import read_settings
from settings.published import PUBLISHED_TRUNKS

HANET = "hanet.DeepR101V3PlusD_HANet"


@pytest.mark.parametrize("arch", ["timm.OCR", "timm.UPerNet_Mscale", "network.timm.SegFormer"])
def test_it_names_the_trunk_of_timm_architectures(arch: str) -> None:
    told = read_settings(["--arch", arch, "--trunk", "convnext_tiny.fb_in22k"])
    assert told.MODEL.trunk == "convnext_tiny.fb_in22k"
    assert not [note for note in told.notes if "--trunk" in note]


@pytest.mark.parametrize("name", [*PUBLISHED_TRUNKS, "my_own_trunk"])
def test_published_command_lines_go_on_with_a_note(name: str) -> None:
    told = read_settings(["--arch", HANET, "--trunk", name])
    assert told.MODEL.trunk == ""
    (note,) = [note for note in told.notes if "--trunk" in note]
    assert note.startswith(f"--trunk {name} never had an effect on --arch {HANET}")


@pytest.mark.parametrize("arch", [[], ["--arch", HANET]])
def test_a_model_of_timm_is_refused_where_there_is_a_trunk(arch: list[str]) -> None:
    with pytest.raises(UserError, match="--trunk convnext_tiny: --arch .* has a trunk of its own"):
        read_settings([*arch, "--trunk", "convnext_tiny"])


def test_where_a_file_names_the_architecture_nothing_is_decided() -> None:
    told = read_settings(["--eval", "val", "--snapshot", "net.pth", "--trunk", "resnet18"])
    assert told.MODEL.trunk == "resnet18"


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny.fb_in22k"])
def test_weights_by_the_name_of_a_model_name_the_trunk(name: str) -> None:
    told = read_settings(["--arch", "timm.OCR", "--pretrained", f"timm:{name}"])
    assert told.MODEL.trunk == name and told.MODEL.pretrained == f"timm:{name}"
    both = ["--trunk", "resnet18", "--pretrained", f"timm:{name}"]
    assert read_settings(["--arch", "timm.OCR", *both]).MODEL.trunk == "resnet18"
    assert read_settings(["--arch", HANET, "--pretrained", f"timm:{name}"]).MODEL.trunk == ""
    assert read_settings(["--arch", "timm.OCR", "--pretrained", "resnet18.pth"]).MODEL.trunk == ""
