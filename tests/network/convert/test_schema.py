# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of this program with any wrong entry is refused in one line, before it is used."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from assembly.resume import kept_settings
from assembly.run import Run, read_resumed
from config import UserError
from engine.state import Progress, TrainState
from network.build import build_net
from network.convert import load_official, load_trunk, read_checkpoint
from network.convert.position_tables import load_position_tables
from network.convert.schema import check_named, check_own, check_resumable
from network.convert.value_checks import not_finite
from runtime.distributed import World
from runtime.precision import resolve_precision
from runtime.runlog import RunLog
from scripts.convert_checkpoint import convert
from tests.engine.test_resume_rules import HEADER
from tests.network.tiny import tiny_net
from tests.settings.test_classification import resolved

WRONG: tuple[Any, ...] = (
    None, True, 7, -1, 2**70, 0.5, float("nan"), float("inf"), "", "text", b"bytes", [], [None],
    [[]], {}, {"a": 1}, {1: 2}, torch.ones(2), torch.tensor(float("nan")),
)  # fmt: skip


def a_checkpoint() -> dict[str, Any]:
    """A whole one, of two layers trained for one step, with an average."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    net(torch.randn(4, 2)).square().sum().backward()
    optimizer.step()
    settings = kept_settings(resolved(), 3)
    state = TrainState(
        net=net, optimizer=optimizer, scaler=torch.amp.GradScaler("cpu", enabled=False),
        ema=torch.optim.swa_utils.AveragedModel(net), progress=Progress(iteration=1),
        facts={**HEADER, "settings": settings},
    )  # fmt: skip
    return copy.deepcopy(state.pack())


Path_ = tuple[Any, ...]


def places(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Where something can be removed or replaced; of long lists of numbers the first and last."""
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list | tuple) and path[-1:] != ("settings",):
        inner = list(enumerate(value))
        inner = inner if len(inner) < 20 else [inner[0], inner[-1]]
    else:
        return
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


def parent_of(content: Any, path: Path_) -> Any:
    """The container of a place; the tuples on the way are made lists."""
    for key in path[:-1]:
        if isinstance(content[key], tuple):
            content[key] = list(content[key])
        content = content[key]
    return content


def refused(content: dict[Any, Any]) -> str | None:
    """The line about a file with this content, None if it passes."""
    try:
        check_own(content, "FILE")
        check_named(content, "FILE")
        check_resumable(content, "FILE")
    except UserError as error:
        return str(error)
    return None


WHOLE = a_checkpoint()
# What may be left out: what earlier versions did not write, and what only tells something.
OPTIONAL = {
    "settings", "positions", "param_rules", "command", "epoch", "mean_iu", "__metric", "best",
    "best_epoch", "skipped", "best_iteration", "validated", "waited", "initial_lr", "betas", "eps",
    "weight_decay", "hrnet_width", "amsgrad", "maximize", "foreach", "capturable",
    "differentiable", "fused", "decoupled_weight_decay",
}  # fmt: skip
FREE = {"foreach", "fused", "maximize", "capturable", "differentiable", "amsgrad"}
FREE |= {"decoupled_weight_decay"}  # torch's own switches: those of this run are used


def test_a_whole_file_passes() -> None:
    assert refused(WHOLE) is None


def test_no_entry_can_be_missing_in_silence() -> None:
    for path in list(places(WHOLE)):
        if path[0] in ("settings", "format") or path[-1] in OPTIONAL or "state_dict" in path[0]:
            continue
        if path[:2] == ("optimizer", "state"):  # a parameter that never had a gradient has none
            continue
        content = copy.deepcopy(WHOLE)
        del parent_of(content, path)[path[-1]]
        line = refused(content)
        assert line is not None and "\n" not in line, path
        assert line.startswith("FILE"), path


@pytest.mark.slow
def test_any_wrong_value_anywhere_is_one_line_or_of_the_same_kind() -> None:
    for path in list(places(WHOLE)):
        if path[0] == "settings" or path[-1] in FREE:
            continue
        for wrong in WRONG:
            content = copy.deepcopy(WHOLE)
            parent = parent_of(content, path)
            old, parent[path[-1]] = parent[path[-1]], wrong
            line = refused(content)
            assert line is None or ("\n" not in line and line.startswith("FILE")), path
            if line is None and (path[0], wrong) != ("model_options", None):  # none: by the arch
                assert same_kind(old, wrong), (path, wrong)


def same_kind(old: Any, new: Any) -> bool:
    """Whether `new` may stand where `old` stands."""
    if isinstance(old, torch.Tensor):  # its shape is compared with the network's
        return isinstance(new, torch.Tensor | int | float) or new is None
    if isinstance(old, bool) or old is None:
        return new is None or isinstance(new, bool | int | float | str)
    if isinstance(old, int | float):
        return isinstance(new, int | float)
    return type(old) is type(new) or {type(old), type(new)} == {list, tuple}


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def test_every_reader_refuses_a_damaged_file(tmp_path: Path) -> None:
    content = {**WHOLE, "class_names": ["quay"]}
    path = saved(content, tmp_path / "damaged.pth")
    words = r"damaged\.pth is damaged: entry class_names has 1 classes, num_classes is 3"
    net = tiny_net()
    with pytest.raises(UserError, match=words):
        read_checkpoint(path)
    with pytest.raises(UserError, match=words):
        load_official(net, path)
    with pytest.raises(UserError, match=words):
        load_trunk(net, str(path))
    with pytest.raises(UserError, match=words):
        convert(path, tmp_path / "out.safetensors", trust=False)
    assert not (tmp_path / "out.safetensors").exists()


def test_not_finite_weights_are_named(tmp_path: Path) -> None:
    content = copy.deepcopy(WHOLE)
    content["live_state_dict"]["0.bias"][1] = float("inf")
    with pytest.raises(UserError, match=r"0\.bias holds NaN or infinite numbers"):
        read_checkpoint(saved(content, tmp_path / "own.pth"))
    net = build_net("segformer.B0", 3, stage_depths=(1, 1, 1, 1))
    state = {key: value.clone() for key, value in net.state_dict().items()}
    name = next(key for key in state if key.startswith("backbone.") and key.endswith("weight"))
    state[name].view(-1)[0] = float("nan")
    before = net.state_dict()[name].clone()
    with pytest.raises(UserError, match=f"{name} holds NaN"):
        load_official(net, state)
    trunk = {key.removeprefix("backbone."): v for key, v in state.items() if "backbone." in key}
    with pytest.raises(UserError, match=f"{name.removeprefix('backbone.')} holds NaN"):
        load_trunk(net, str(saved(trunk, tmp_path / "trunk.pth")))
    assert torch.equal(net.state_dict()[name], before)


def test_a_position_table_of_nan_is_named() -> None:
    block, net = nn.Module(), nn.Module()
    block.pos_layer = nn.Embedding(2, 2)
    net.add_module("hanet0", block)
    state = {"hanet0.pos_layer.weight": torch.full((2, 2), float("nan"))}
    with pytest.raises(UserError, match="holds NaN or infinite numbers"):
        load_position_tables(net, state, "FILE")


def test_large_but_finite_numbers_are_numbers() -> None:
    assert not_finite({"w": torch.full((4,), 3e38)}) is None
    assert not_finite({"h": torch.full((4,), 6e4, dtype=torch.float16)}) is None
    assert not_finite({"n": torch.tensor([1, 2]), "w": torch.tensor([1.0, torch.nan])}) == "w"


def with_header(path: Path, header: Any) -> Path:
    """A safetensors file of one tensor whose JSON header is `header`."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 4)
    return path


TENSOR = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
HEADERS: tuple[Any, ...] = (
    [], 7, "text", None, {"w": 3}, {"w": []}, {"w": {"dtype": "F32"}},
    {**TENSOR, "__metadata__": []}, {**TENSOR, "__metadata__": 3},
    {**TENSOR, "__metadata__": {"hiseg": []}}, {**TENSOR, "__metadata__": {"hiseg": "[]"}},
    {**TENSOR, "__metadata__": {"hiseg": "{"}}, {**TENSOR, "__metadata__": {"hiseg": "null"}},
    {**TENSOR, "__metadata__": {"hiseg": "[" * 100_000}},
    {**TENSOR, "__metadata__": {"hiseg": '{"model_options": 3}'}},
    {**TENSOR, "__metadata__": {"hiseg": '{"format": "hiseg-1"}'}},
    {"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
    {"w": {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4]}},
    {"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
    b"\xff" * 40, b"[" * 10_000, b"{" * 10_000,
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(HEADERS)))
def test_a_damaged_safetensors_header_is_one_line(tmp_path: Path, number: int) -> None:
    path = with_header(tmp_path / "w.safetensors", HEADERS[number])
    with pytest.raises(UserError, match=r"w\.safetensors") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


def test_a_torn_file_of_either_kind_is_one_line(tmp_path: Path) -> None:
    whole = saved(WHOLE, tmp_path / "w.pth").read_bytes()
    tensors = {"w": torch.ones(100)}
    plain = safetensors.torch.save(tensors, metadata={"hiseg": "{}"})
    rng = random.Random(0)
    for name, content in (("w.pth", whole), ("w.safetensors", plain)):
        path = tmp_path / name
        for size in (0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:size])
            with pytest.raises(UserError):
                read_checkpoint(path)
        for _ in range(40):
            torn = bytearray(content)
            for _ in range(8):
                torn[rng.randrange(min(len(torn), 3000))] = rng.randrange(256)
            path.write_bytes(torn)
            try:
                read_checkpoint(path)  # a number changed: it may still be a file
            except UserError as error:
                assert "\n" not in str(error)


def test_names_that_no_file_can_have_are_one_line(tmp_path: Path) -> None:
    for name in ("n" * 300, "a\0b"):
        with pytest.raises(UserError, match="bytes|no file has such a name"):
            read_checkpoint(tmp_path / name)
        with pytest.raises(UserError):
            convert(tmp_path / name, tmp_path / "out.safetensors", trust=True)
        with pytest.raises(UserError):
            convert(saved(WHOLE, tmp_path / "w.pth"), tmp_path / f"{name}.safetensors", False)
    with pytest.raises(UserError, match="is a folder"):
        read_checkpoint(tmp_path)


def test_a_converted_file_passes_but_holds_no_training(tmp_path: Path) -> None:
    target = tmp_path / "w.safetensors"
    convert(saved(WHOLE, tmp_path / "w.pth"), target, trust=False)
    assert read_checkpoint(target)["class_names"] == WHOLE["class_names"]
    log = RunLog(tmp_path / "run", is_main=True, progress=False)
    cpu = torch.device("cpu")
    world = World(rank=0, size=1, local_rank=0, device=cpu)
    precision, _ = resolve_precision("fp32", cpu)
    told = resolved("--resume", str(target))
    run = Run(settings=told, world=world, precision=precision, log=log)
    with pytest.raises(UserError, match=r"w\.safetensors holds no training state"):
        read_resumed(run)


def test_a_rate_that_rescale_made_huge_can_be_resumed_but_no_infinite_one() -> None:
    content = copy.deepcopy(WHOLE)
    content["optimizer"]["param_groups"][0]["lr"] = 3.5e19
    assert refused(content) is None
    content["optimizer"]["param_groups"][0]["lr"] = float("inf")
    assert "optimizer.param_groups.0.lr is inf" in str(refused(content))
