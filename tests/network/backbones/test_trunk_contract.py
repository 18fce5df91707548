# SPDX-License-Identifier: Apache-2.0
"""What every trunk states about itself is true."""

from __future__ import annotations

import pytest
import torch

from config import UserError
from network.backbones.trunk import Trunk
from network.build import build_net, list_archs, list_classifiers
from network.contract import Network, OneScale, SeveralScales
from tests.network.tiny import picture

SIDE = 96  # a multiple of all strides that MNASNet, the largest of the small ones, takes
CLASSIFIERS = list_classifiers()
ONE_OF_EACH = (  # class of trunk
    "basic.HRNet", "deepv3.DeepV3PlusEffB4", "hanet.DeepMNASNet05V3PlusD_HANet",
    "hanet.DeepMobileNetV3PlusD_HANet_OS8", "hanet.DeepR50V3PlusD_HANet",
    "hanet.DeepShuffleNetV3PlusD_HANet_OS32", "hila.B0_S34", "hila.SwinT_S234",
    "hrvit.b1_SegFormer", "segformer.B0", "swin.T_UPerNet", "timm.UPerNet", "unept.R50",
)  # fmt: skip


def trunk_of(net: Network) -> Trunk:
    assert net.trunk is not None
    return net.trunk


@pytest.mark.parametrize("arch", ONE_OF_EACH)
@torch.inference_mode()
def test_maps_have_the_channels_and_strides_that_the_trunk_states(arch: str) -> None:
    trunk = trunk_of(build_net(arch, 3)).eval()
    assert trunk.smallest <= SIDE
    maps = trunk(picture(SIDE, 2 * SIDE))
    assert tuple(x.shape[1] for x in maps) == trunk.channels
    lost = 4 if "MNASNet" in arch else 0  # rows and columns of a dilated stage
    for x, stride in zip(maps, trunk.strides, strict=True):
        sides = SIDE // stride, 2 * SIDE // stride
        assert tuple(x.shape[2:]) == (sides if stride == 8 else tuple(s - lost for s in sides))


@pytest.mark.parametrize("arch", ["segformer.B0", "swin.T_UPerNet"])
def test_an_image_below_the_smallest_is_refused(arch: str) -> None:
    trunk = trunk_of(build_net(arch, 3))
    trunk(picture(trunk.smallest, trunk.smallest))
    with pytest.raises(UserError, match="both sides must have at least 4"):
        trunk(picture(trunk.smallest - 1, 64))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "once", "twice"),
    [
        ("segformer.B0", "patch_embed1", "block1.0"),
        ("hila.B0_S3", "prevnorm.23", "topdown.23.0"),
        ("basic.HRNet", "conv1", "stage2.0"),
        ("unept.R50", "stem", "layer1"),
    ],
)
def test_checkpointing_rebuilds_what_goes_through_run(arch: str, once: str, twice: str) -> None:
    trunk, calls = trunk_of(build_net(arch, 3, grad_ckpt=True)).train(), dict[str, int]()
    for name in (once, twice):
        part = trunk.get_submodule(name)
        part.register_forward_pre_hook(
            lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1})
        )
    sum(x.square().mean() for x in trunk(picture(64, 64, batch=2))).backward()
    assert calls == {once: 1, twice: 2}


def check_declarations(arch: str) -> None:
    """The trunk, the network inside and the declared parts of an architecture are there."""
    with torch.device("meta"):
        net = build_net(arch, 3)
    trunk = trunk_of(net)
    assert len(trunk.channels) == len(trunk.strides) >= 3
    if arch in CLASSIFIERS:
        assert net.one_scale is None and net.auxiliary_parts == ()
        return
    inner = net.net if isinstance(net, SeveralScales) else net
    assert isinstance(inner, OneScale) and net.one_scale is inner and inner.trunk is trunk
    assert inner.auxiliary_parts is not None
    for part in (*inner.auxiliary_parts, *inner.boundary_parts):
        assert list(inner.get_submodule(part).parameters()), part


@pytest.mark.parametrize(
    "arch",
    [*ONE_OF_EACH, "segformer.B0_Mscale", "mscale2.HRNet", "attnscale.DeepV3R50", "hrvit.b1_224"],
)
def test_declared_parts_exist(arch: str) -> None:
    check_declarations(arch)


@pytest.mark.slow
def test_declared_parts_of_all_architectures_exist() -> None:
    for arch in list_archs():
        check_declarations(arch)
