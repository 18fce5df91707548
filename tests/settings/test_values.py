# SPDX-License-Identifier: Apache-2.0
"""The parser class."""

from __future__ import annotations

import pytest

from config import UserError
from settings import read_flags, read_settings


def test_hyphens_in_the_name_of_a_flag_stand_for_underscores() -> None:
    line = "--eval val --eval-f1-start 1 --mod-f1 --eval-distance-crop 9 8 --result_dir=/a-b/c-d"
    argv = [*line.split(), "--tb-tag", "x-y", "--bs-val=3"]
    told = read_settings(argv)
    outputs = told.outputs
    assert (outputs.eval_f1_start, outputs.mod_f1, outputs.eval_distance_crop) == (1, True, (9, 8))
    assert (told.run.result_dir, told.data.bs_val) == ("/a-b/c-d", 3)
    assert read_flags(argv).ignored == ("tb_tag",)
    assert {"eval_f1_start", "mod_f1", "eval_distance_crop", "bs_val"} <= told.given
    for spelling in ("--local-rank=2", "--local_rank=2"):
        assert read_flags([spelling]).values["local_rank"] == 2


def test_a_height_code_of_any_length_passes_the_flags() -> None:
    for argv, code in (
        (["--set", "MODEL.hanet_pos=0"], (0,)),
        (["--hanet_pos", "2", "1", "8"], (2, 1, 8)),
    ):
        assert read_settings(argv).MODEL.hanet_pos == code


def test_an_unknown_flag_is_named_as_it_was_typed() -> None:
    with pytest.raises(UserError, match=r"^unknown argument --bs-trm; did you mean --bs_trn\?$"):
        read_flags(["--bs-trm", "2"])
