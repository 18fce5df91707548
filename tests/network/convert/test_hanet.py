# SPDX-License-Identifier: Apache-2.0
"""What the weights of HANet blocks tell of the options they were trained with."""

from __future__ import annotations

import math

import pytest
from torch import Tensor

from network.convert.hanet import block_facts, misfit, named, official_name, our_name
from network.heads.hanet import HANet, HANetSettings

# an eighth of the published widths
CHANNELS = {0: (128, 256), 1: (256, 160), 2: (160, 32), 3: (38, 32), 4: (32, 19)}


def state(places: tuple[int, ...] = (0, 1, 2, 3), prefix: str = "", **options: object) -> dict:
    """The state dict of blocks with learned codes at these places."""
    found: dict[str, Tensor] = {}
    for place in places:
        block = HANet(*CHANNELS[place], HANetSettings(sinusoid=False, **options))
        found |= {f"{prefix}hanet{place}.{k}": v for k, v in block.state_dict().items()}
    return found


@pytest.mark.parametrize("reduction", [1, 2, 3, 8, 16, 24, 32, 33, 64, 128, -2])
def test_exactly_the_reductions_of_the_span_give_the_same_widths(reduction: int) -> None:
    facts = block_facts(state(reduction=reduction, injection=0))
    assert facts.switches == (1, 1, 1, 1, 0)
    low, high = facts.reduction
    widths = [HANetSettings(reduction=reduction).hidden(c) for c, _ in list(CHANNELS.values())[:4]]
    for other in {*range(1, 200), reduction}:
        same = [HANetSettings(reduction=other).hidden(c) for c, _ in list(CHANNELS.values())[:4]]
        assert (same == widths) == (low <= other <= high)
    if reduction in (2, 8, 16, 32, 64, 128, -2):
        assert named(facts.reduction) == str(reduction)


@pytest.mark.parametrize(
    ("option", "value", "shown"),
    [
        ("reduction", 16, "16"),  # one block leaves 13..18 open
        ("reduction", 12, "10..12"),
        ("reduction", 64, "64"),  # one hidden channel: 38 and more
        ("row_steps", 20, "19..21"),
        ("row_steps", 64, "64"),
        ("row_steps", 7, "7"),
    ],
)
def test_the_power_of_two_of_a_span_is_named_else_its_ends(
    option: str, value: int, shown: str
) -> None:
    facts = block_facts(state(places=(3,), **{option: value}))
    assert named(facts.reduction if option == "reduction" else facts.pos_rfactor) == shown


@pytest.mark.parametrize("prefix", ["", "net."])
@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (
            {"kernel": 5, "layers": 2, "injection": 1, "row_steps": 4},
            "--hanet_set 5 32 2 --hanet_pos 1 0 --pos_rfactor 4",
        ),
        ({"injection": 0}, "--hanet_set 3 32 3 --hanet_pos 0 0"),
        ({"injection": 2}, "--hanet_set 3 32 3 --hanet_pos 2 0 --pos_rfactor 8"),
    ],
)
def test_the_flags_named_build_the_blocks_of_the_file(
    prefix: str, options: dict, flags: str
) -> None:
    facts = block_facts(state(places=(1, 4), prefix=prefix, **options))
    assert " ".join(facts.flags().values()) == f"--hanet 0 1 0 0 1 {flags}"


def test_a_fixed_code_is_known_by_its_first_row() -> None:
    block = HANet(8, 4, HANetSettings(reduction=2))
    weights = {f"hanet0.{key}": value for key, value in block.state_dict().items()}
    assert block_facts(weights).flags()["hanet_pos"] == "--hanet_pos 2 1"


def test_equal_blocks_and_none_at_all_are_no_misfit() -> None:
    assert misfit(state(), state()) == "" and misfit({}, {}) == ""
    assert misfit(state(), state(reduction=64)) == (
        "its HANet blocks were trained with reduction 64 "
        "(file: --hanet_set 3 64 3, network: --hanet_set 3 32 3)"
    )
    assert misfit(state(row_steps=4), state(injection=1)) == (
        "its HANet blocks differ (file: --hanet_pos 1 0 --pos_rfactor 8, "
        "network: --hanet_pos 2 0 --pos_rfactor 4)"
    )
    assert "no HANet blocks" in misfit({}, state())
    assert "leave --hanet out" in misfit(state(), {})


@pytest.mark.parametrize(
    "key", ["layer0.0.weight", "aspp.img_conv.0.weight", "hanet0.x", "dsn.0.bias"]
)
def test_names_go_there_and_back(key: str) -> None:
    assert official_name(our_name(key)) == key
    assert official_name("net." + our_name(key)) == key


def test_the_rule_of_the_width_is_rounding_up() -> None:
    assert HANetSettings(reduction=64).hidden(304) == math.ceil(304 / 64) == 5
