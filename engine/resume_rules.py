# SPDX-License-Identifier: Apache-2.0
"""Settings of a resumed run against those of its file: what is applied, and what is refused.

Which setting is which stands where it is declared, in `settings/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.class_tables import class_difference
from runtime.limits import counted

STARTING_POINTS = {
    "pretrained"
}  # options that say where weights started from; the file holds the weights
MEMORY = {"grad_ckpt"}  # options of the network that change no result

STEPS = "steps_per_epoch"  # loader batches, kept beside the settings
Kept = dict[str, Any]  # settings in plain types, by name
IS_OFF: dict[str, Callable[[Any], bool]] = {  # between these and the others the state does not fit
    "ema": lambda value: value is None,
    "ocr_alpha": lambda value: value == 0,  # heads without a loss are frozen
    "val_iters": lambda value: not value,  # rows of metrics.csv count steps or epochs
}


@dataclass(frozen=True, kw_only=True)
class ResumeRules:
    """Names of settings that may not differ: never, or not inside an epoch. Others are applied.

    option_defaults: options of the network, as plain values. A file that lacks one was written
    before there was such an option, by a network like that of its default.
    """

    refused: frozenset[str] = frozenset()
    between_epochs: frozenset[str] = frozenset()
    option_defaults: Mapping[str, Any] = field(default_factory=dict)


def plain(value: Any) -> Any:
    """Tuples as the lists that a file gives back."""
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def recorded(content: Mapping[str, Any]) -> Kept:
    """The settings in a file; for files of earlier versions, without any, what the optimiser
    tells."""
    if "settings" in content:
        return dict(content["settings"])
    group = content["optimizer"]["param_groups"][0]
    named = {"momentum": "momentum", "betas": "betas", "adam_eps": "eps", "amsgrad": "amsgrad"}
    found = {ours: plain(group[theirs]) for ours, theirs in named.items() if theirs in group}
    if "momentum" in group:
        kind = "sgd"
    elif "amsgrad" not in group:
        kind = "radam"
    else:
        kind = "adamw" if group.get("decoupled_weight_decay") else "adam"
    return {**found, "optimizer": kind}


@dataclass
class Comparison:
    """Lines about what differs: `refused` ends the resume, `applied` goes to the log."""

    refused: list[str] = field(default_factory=list)
    applied: list[str] = field(default_factory=list)


def _flag(name: str) -> str:
    return name if "." in name or name == STEPS else f"--{name}"


def _shown(value: Any) -> str:
    """A setting as one would type it; an unset one must not be shown as an empty string."""
    if value is None or value in ("", []):
        return "none"
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return str(value)


def compare_settings(
    saved: Kept, own: Kept, rules: ResumeRules, epoch: int, step: int
) -> Comparison:
    """Each setting that both a file and this run know and that differs.

    epoch, step: where the file was written.
    """
    found = Comparison()
    by_iteration = own.get("lr_by") == "iter" and own.get("max_iter") is None
    changed = [name for name in own if name in saved and plain(saved[name]) != own[name]]
    if set(changed) & {"bs_trn", "accum_steps", "test_mode"} and STEPS in changed:
        changed.remove(STEPS)  # follows from them
    for name in changed:
        old, new = plain(saved[name]), own[name]
        text = f"{_flag(name)} {_shown(old)} (this run {_shown(new)})"
        is_off = IS_OFF.get(name)
        if name in rules.refused or (is_off is not None and is_off(old) != is_off(new)):
            found.refused.append(text)
        elif name in {*rules.between_epochs, STEPS} and step > 0:
            found.refused.append(f"{text} inside epoch {epoch}")
        elif name in ("bs_trn", "accum_steps") and by_iteration:
            found.refused.append(f"{text} with a rate by the iterations of --max_epoch")
        elif name == STEPS:
            found.applied.append(f"{_shown(old)} -> {_shown(new)} steps per epoch: the set changed")
        else:
            found.applied.append(f"{_flag(name)} {_shown(old)} -> {_shown(new)}")
    return found


def compare_facts(
    content: Mapping[str, Any],
    own: Mapping[str, Any],
    world: int,
    option_defaults: Mapping[str, Any],
) -> list[str]:
    """What makes a file belong to another run: one text for each entry, empty if nothing does."""
    found = [
        f"{name} {content[name]} (this run {own[name]})"
        for name in ("arch", "num_classes", "seed", "dataset")
        if name in content and name in own and content[name] != own[name]
    ]
    if "arch" in own and content.get("arch") == own["arch"]:
        options = different_options(
            {**option_defaults, **content["model_options"]},
            {**option_defaults, **own["model_options"]},
        )
        way = "; boundary_heads follows --dt_offset_wt"
        found += [text + (way if text.startswith("boundary_heads") else "") for text in options]
    if "class_names" in content and "class_names" in own:
        difference = class_difference(content["class_names"], own["class_names"])
        if difference and len(content["class_names"]) == len(own["class_names"]):
            found.append(f"other classes ({difference})")
    if content.get("param_rules", []) != own.get("param_rules", []):
        found.append(
            "--param_rules, --hanet_lr, --backbone_lr or --layer_decay (give those of the file)"
        )
    positions = own.get("positions")
    if content.get("positions", positions) != positions:
        trained, way = ("without", "add") if positions else ("with", "leave out")
        found.append(f"been trained {trained} row positions ({way} --no_pos_dataset)")
    if content["world_size"] != world:
        before, now = _layout(content, own), _layout({**own, "world_size": world}, own)
        if before.images != now.images:
            writers = counted(before.ranks, "process")
            found.append(f"been written by {writers}, this run has {world} ({before})")
    return found


class Layout(NamedTuple):
    """How many images a step has, and in which batches: one of each rank, `accum_steps` times."""

    ranks: int
    bs_trn: int
    accum_steps: int

    @property
    def batches(self) -> int:
        """Batches of a step."""
        return self.ranks * self.accum_steps

    @property
    def images(self) -> int:
        """Images of a step."""
        return self.batches * self.bs_trn

    def __str__(self) -> str:
        numbers = [number for number in range(1, self.batches + 1) if self.batches % number == 0]
        shown = ", ".join(str(number) for number in numbers[:12])
        return (
            f"a step has {counted(self.images, 'image')} in {counted(self.batches, 'batch')} of "
            f"--bs_trn {self.bs_trn}: as many processes as divide them can go on, {shown}"
            f"{', ...' * (len(numbers) > 12)}"
        )


def _layout(content: Mapping[str, Any], own: Mapping[str, Any]) -> Layout:
    """That of a file; what an old one does not say is as in this run."""
    kept = {**own.get("settings", {}), **content.get("settings", {})}
    return Layout(content["world_size"], kept.get("bs_trn", 1), kept.get("accum_steps", 1))


def ranks_of(content: Mapping[str, Any], own: Kept, processes: int) -> int:
    """The ranks that a run is laid out for when `processes` go on with it: those of the file if
    they can share its batches, else as many as they are.

    own: the settings of this run. With others of the batch a new layout begins, which
    `compare_facts` accepts where a step keeps its images.
    """
    before = _layout(content, {"settings": own})
    now = Layout(processes, own["bs_trn"], own["accum_steps"])
    same = before[1:] == now[1:] and before.batches % processes == 0
    return before.ranks if same else processes


def different_options(saved: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """The options of the network that differ from those of a checkpoint, with both values."""
    return [
        f"{name} {_option(saved.get(name))} (this run {_option(own.get(name))})"
        for name in sorted((saved.keys() | own.keys()) - STARTING_POINTS - MEMORY)
        if saved.get(name) != own.get(name)
    ]


def _option(value: object) -> object:
    return "none" if value is None or value in ("", [], ()) else value


def refusal(refused: Sequence[str]) -> str:
    """The one line about everything that is refused."""
    return (
        f"--resume: the file has {', '.join(refused)}; this cannot change in a run: "
        "give it as it was, or start a new run with --snapshot"
    )
