# SPDX-License-Identifier: Apache-2.0
"""What a resumed run takes over from its flags, what it refuses, and that nothing is forgotten."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from assembly.network import param_rules
from assembly.optimiser import build_optimizer, make_optimizer
from assembly.resume import kept_settings, resume_rules
from engine import state
from engine.class_tables import class_difference
from engine.optim import WeightAverage
from engine.resume_rules import compare_settings, plain, recorded
from engine.state import Progress, TrainState
from network.convert import schema
from network.convert.schema import check_own, check_resumable
from settings import catalogue
from settings.declare import BETWEEN_EPOCHS, IN_FILE, REFUSED, UNRELATED
from settings.model import ModelConfig
from tests.settings.test_classification import resolved


def test_every_setting_says_what_a_resumed_run_does_with_it() -> None:
    rules, kept = resume_rules(), kept_settings(resolved(), 6)
    assert rules.refused and rules.between_epochs and not rules.refused & rules.between_epochs
    for name, each in catalogue().items():
        assert (name in rules.refused) == (each.resume is REFUSED), name
        assert (name in rules.between_epochs) == (each.resume is BETWEEN_EPOCHS), name
        assert (name in kept) == (each.resume not in (IN_FILE, UNRELATED)), name
    assert set(kept) == {name for name in catalogue() if name in kept} | {"steps_per_epoch"}


def test_reader_and_writer_of_files_agree() -> None:
    assert schema.FORMAT == state.FORMAT
    assert set(schema.PROGRESS) == {item.name for item in dataclasses.fields(Progress)}


NET = {"arch": "basic.HRNet", "num_classes": 3, "model_options": {"hrnet_width": 4}}
HEADER = {
    **NET, "param_rules": [], "dataset": "harbour", "class_names": ["quay", "boat", "sea"],
    "palette": [[0, 0, 0], [1, 2, 3], [9, 9, 9]], "train_id_to_id": [0, 1, 2],
    "ignore_label": 255, "positions": True, "seed": 0, "command": "train.py",
}  # fmt: skip


class Pair(nn.Module):
    """Two layers, so that rules can make two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.head(self.trunk(values)))


def make_state(*argv: str, steps: int = 6, header: dict[str, Any] | None = None) -> TrainState:
    """The state of a run with these flags, at its start."""
    told = resolved(*argv)
    torch.manual_seed(0)
    net = Pair()
    optimizer = build_optimizer(told, net, float(told.optimiser.lr), None)
    ema = None
    if told.optimiser.ema is not None:
        ema = WeightAverage(net, told.optimiser.ema)
    facts = {**(header or HEADER), "settings": kept_settings(told, steps)}
    facts["param_rules"] = param_rules(told)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return TrainState(
        net=net,
        optimizer=optimizer,
        scaler=scaler,
        ema=ema,
        progress=Progress(),
        facts=facts,
        rules=resume_rules(),
    )


def step(state: TrainState) -> None:
    state.net(torch.ones(2, 3)).sum().backward()
    state.optimizer.step()
    state.optimizer.zero_grad()
    if state.ema is not None:
        state.ema.update_parameters(state.net)
    state.progress.step += 1
    state.progress.iteration += 1


def written(*argv: str, at_step: int = 1, **more: Any) -> dict[str, Any]:
    """The checkpoint of a run, read back as from a file; `at_step` 0 is an epoch's end."""
    state = make_state(*argv, **more)
    step(state)
    state.progress.step = at_step
    state.progress.epoch = 0 if at_step else 1
    content = copy.deepcopy(state.pack())
    check_own(content, "FILE")
    check_resumable(content, "FILE")
    return content


def resumed(content: dict[str, Any], *argv: str, **more: Any) -> tuple[TrainState, list[str]]:
    state = make_state(*argv, **more)
    return state, state.unpack(content)


@pytest.mark.parametrize("kind", ["sgd", "adam", "radam", "adamw"])
def test_unchanged_settings_go_on_bit_for_bit(kind: str) -> None:
    argv = ("--optimizer", kind, "--ema", "0.9", "--param_rules", "head:lr=10,bias:decay=0")
    whole = make_state(*argv)
    step(whole)
    step(whole)
    state, lines = resumed(written(*argv), *argv)
    step(state)
    assert lines == []
    assert (
        state.optimizer.state_dict()["param_groups"]
        == (whole.optimizer.state_dict()["param_groups"])
    )
    for name, value in whole.pack()["live_state_dict"].items():
        assert torch.equal(value, state.net.state_dict()[name])


def test_rates_and_decays_of_the_flags_reach_every_group() -> None:
    rules = ("--param_rules", "head:lr=10,bias:decay=0")
    content = written("--lr", "0.01", *rules)
    state, lines = resumed(
        content, "--lr", "0.0001", "--weight_decay", "0.5", "--momentum", "0.1", *rules
    )
    assert sorted(lines) == [
        "--lr 0.01 -> 0.0001",
        "--momentum 0.9 -> 0.1",
        "--weight_decay 0.0001 -> 0.5",
    ]
    own = {group["lr_mult"]: group for group in state.optimizer.param_groups}
    assert own[10.0]["initial_lr"] == pytest.approx(0.001)
    assert {g["initial_lr"] / g["lr_mult"] for g in own.values()} == {0.0001}
    assert {g["weight_decay"] for g in state.optimizer.param_groups} == {0.5, 0.0}
    assert {g["momentum"] for g in state.optimizer.param_groups} == {0.1}
    # what the steps gathered stays
    assert all("momentum_buffer" in kept for kept in state.optimizer.state.values())
    again = written_by(state)
    assert again["optimizer"]["param_groups"][0]["momentum"] == 0.1
    assert again["settings"]["lr"] == 0.0001


def written_by(state: TrainState) -> dict[str, Any]:
    return copy.deepcopy(state.pack())


@pytest.mark.parametrize(
    ("argv", "lines"),
    [
        (["--max_epoch", "9"], ["--max_epoch 180 -> 9"]),
        (["--poly_exp", "2"], ["--poly_exp 1.0 -> 2.0"]),
        (["--val_freq", "3", "--save_iters", "7"], ["--save_iters 0 -> 7", "--val_freq 1 -> 3"]),
        (["--num_workers", "0"], ["--num_workers 4 -> 0"]),
        (["--crop_size", "64"], ["--crop_size 896,896 -> 64,64"]),
        (["--rmi_loss"], ["--rmi_loss False -> True"]),
        (["--ema", "0.5"], ["--ema 0.9 -> 0.5"]),
        (["--precision", "bf16"], ["--precision fp32 -> bf16"]),
        (["--result_dir", "/elsewhere", "--no_progress"], []),
    ],
)
def test_what_can_be_applied_is_named(argv: list[str], lines: list[str]) -> None:
    content = written("--ema", "0.9")
    more = argv if "--ema" in argv else [*argv, "--ema", "0.9"]
    assert sorted(resumed(content, *more)[1]) == lines


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--optimizer", "adamw"], ["--optimizer sgd (this run adamw)"]),
        (["--bs_trn", "4"], ["--bs_trn 2 (this run 4) inside epoch 0"]),
        (["--accum_steps", "4"], ["--accum_steps 1 (this run 4) inside epoch 0"]),
        (["--class_uniform_pct", "0"], ["--class_uniform_pct 0.5 (this run 0.0) inside epoch 0"]),
        (["--ema", "0.9"], ["--ema none (this run 0.9)"]),
        (["--cv", "1"], ["--cv 0 (this run 1)"]),
        (["--param_rules", "head:lr=2"], ["--param_rules"]),
        (
            ["--optimizer", "adam", "--bs_trn", "4", "--lr", "1"],
            ["--optimizer sgd (this run adam)", "--bs_trn 2 (this run 4)"],
        ),
    ],
)
def test_what_can_not_change_is_refused_in_one_line(argv: list[str], words: list[str]) -> None:
    content = written()
    before = make_state(*argv).net.state_dict()
    state = make_state(*argv)
    with pytest.raises(ValueError, match="--resume: the file has") as error:
        state.unpack(content)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value) and str(error.value).endswith("--snapshot")
    for name, value in before.items():
        assert torch.equal(value, state.net.state_dict()[name]), "weights were changed"


def test_between_two_epochs_a_batch_may_change() -> None:
    content = written(at_step=0)
    argv = ("--bs_trn", "4", "--class_uniform_pct", "0")
    assert sorted(resumed(content, *argv, steps=3)[1]) == [
        "--bs_trn 2 -> 4",
        "--class_uniform_pct 0.5 -> 0.0",
    ]
    by_steps = ("--lr_by", "iter")
    content = written(*by_steps, at_step=0)
    with pytest.raises(ValueError, match="--bs_trn 2 .* a rate by the iterations of --max_epoch"):
        resumed(content, *by_steps, "--bs_trn", "4", steps=3)


def test_a_set_that_grew_is_noticed() -> None:
    with pytest.raises(ValueError, match=r"steps_per_epoch 6 \(this run 8\) inside epoch 0"):
        resumed(written(), steps=8)
    assert resumed(written(at_step=0), steps=8)[1] == ["6 -> 8 steps per epoch: the set changed"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_names": ["boat", "quay", "sea"]}, "class 0 is quay in the file, boat in this"),
        ({"dataset": "river"}, r"dataset harbour \(this run river\)"),
        ({"seed": 3}, r"seed 0 \(this run 3\)"),
        ({"model_options": {"hrnet_width": 8}}, r"hrnet_width 4 \(this run 8\)"),
        ({"arch": "basic.HRNet_ASP"}, r"arch basic.HRNet \(this run basic.HRNet_ASP\)"),
    ],
)
def test_another_set_or_network_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        resumed(written(), header={**HEADER, **change})
    same = {**HEADER, "class_names": ["Quay", "BOAT", "s-e-a"]}
    assert resumed(written(), header=same)[1] == []


def test_a_file_of_a_version_without_an_option_has_its_default() -> None:
    options = dataclasses.asdict(ModelConfig(hrnet_width=4))
    every = {key: plain(value) for key, value in options.items()}
    for name in every.keys() - {"hrnet_width"}:
        older = {key: value for key, value in every.items() if key != name}
        content = written(header={**HEADER, "model_options": older})
        assert resumed(content, header={**HEADER, "model_options": every})[1] == [], name
    del every["trunk"]
    content = written(header={**HEADER, "model_options": every})
    with pytest.raises(ValueError, match=r"trunk none \(this run resnet18\)"):
        resumed(content, header={**HEADER, "model_options": {**every, "trunk": "resnet18"}})


@pytest.mark.parametrize("kind", ["sgd", "adam", "radam", "adamw"])
def test_a_file_without_settings_tells_what_its_optimiser_holds(kind: str) -> None:
    content = written("--optimizer", kind)
    del content["settings"]
    assert recorded(content)["optimizer"] == kind
    assert resumed(content, "--optimizer", kind, "--bs_trn", "8")[1] == []
    other = "adamw" if kind != "adamw" else "adam"
    with pytest.raises(ValueError, match=rf"--optimizer {kind} \(this run {other}\)"):
        resumed(content, "--optimizer", other)


def test_what_does_not_fit_the_network_is_one_line() -> None:
    wrong: list[tuple[str, dict[str, Any]]] = []
    for words in ("lacks head.bias", "trunk.bias of the file is", "not a weight of the network"):
        wrong.append((words, written("--optimizer", "adam")))
    del wrong[0][1]["state_dict"]["head.bias"]
    wrong[1][1]["state_dict"]["trunk.bias"] = torch.ones(7)
    wrong[2][1]["state_dict"]["strange"] = torch.ones(7)
    for words, change in (
        ("optimizer.state.0.step is missing", lambda s: s[0].pop("step")),
        ("optimizer.state.0.exp_avg is missing", lambda s: s[0].update(exp_avg=None)),
        ("optimizer.state.1.exp_avg is", lambda s: s[1].update(exp_avg=torch.ones(9))),
        ("optimizer.state.1.step is", lambda s: s[1].update(step=torch.ones(9))),
    ):
        content = written("--optimizer", "adam")
        change(content["optimizer"]["state"])
        wrong.append((words, content))
    content = written("--optimizer", "adam")
    content["optimizer"]["param_groups"][0]["params"] = [0]
    wrong.append(("other parameters are trained", content))
    for words, content in wrong:
        with pytest.raises(ValueError, match=words):
            resumed(content, "--optimizer", "adam")


def test_half_precision_can_begin_in_a_run_without_it() -> None:
    content, state = written(), make_state()
    state.scaler = torch.amp.GradScaler("cpu", enabled=True)
    state.unpack(content)
    assert state.scaler.get_scale() > 1


def test_an_unknown_setting_of_a_file_is_no_difference() -> None:
    own = make_state().facts["settings"]
    found = compare_settings({**own, "of_another_version": 3}, own, resume_rules(), 0, 1)
    assert (found.refused, found.applied) == ([], [])


def test_classes_are_compared_by_name_and_order() -> None:
    assert class_difference(["Traffic-Light", "road"], ["traffic light", "Road"]) == ""
    assert class_difference(["a", "b", "c"], ["c", "a", "b"]) == (
        "the same names in another order: class 0 is a in the file, c in this set; "
        "class 1 is b in the file, a in this set; class 2 is c in the file, b in this set"
    )
    assert class_difference(["a", "b"], ["a"]) == "2 classes in the file, 1 in this set"
    many = [str(number) for number in range(9)]
    assert class_difference(many, [f"x{name}" for name in many]).endswith("; 5 more")
    assert class_difference(["道", "-"], ["路", "-"]) == "class 0 is 道 in the file, 路 in this set"


def test_optimizers_keep_their_names() -> None:
    for kind in ("sgd", "adam", "radam", "adamw"):
        optimizer = make_optimizer([nn.Parameter(torch.ones(2))], kind, lr=0.1)
        assert recorded({"optimizer": optimizer.state_dict()})["optimizer"] == kind
