# SPDX-License-Identifier: Apache-2.0
"""Where the memory is too small for a training: which settings would do, in which order.

Gradient checkpointing changes no result and comes first. Smaller batches that are added up keep the
effective batch, and change what batch norm sees. Smaller crops, the last way out, make it another
training. Validation takes smaller batches, then windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.rehearsal import EVALUATION, STEP, DoesNotFit
from engine.resume_rules import plain
from runtime.errors import UserError
from runtime.limits import counted
from settings import Settings, catalogue
from settings.catalogue import with_values
from settings.needs import WHOLE
from settings.sources import value_problem
from settings.task import mixes

KEPT = "auto_fit"  # entry of a checkpoint: name of a setting -> value asked for, value chosen
FITTED = ("grad_ckpt", "bs_trn", "accum_steps", "crop_size", "bs_val", "slide_crop",
          "slide_stride", "bs_window")  # fmt: skip
CROP_SHARES = (3 / 4, 1 / 2)  # of both sides
MULTIPLE, LEAST_SIDE = 32, 64  # of crops, in pixels
STRIDE_SHARE = 3 / 4  # of a window

Changes = dict[str, Any]


def step_ways(settings: Settings) -> Iterator[Changes]:
    """What a step needs less memory with, each beside all that came before."""
    if not settings.MODEL.grad_ckpt:
        yield {"grad_ckpt": True}
    batch, accumulated = settings.data.bs_trn, settings.optimiser.accum_steps
    classifies = settings.classification.task == "classify"
    in_pairs = classifies and mixes(settings) or settings.MODEL.batch_attention == "training"
    least = 2 if in_pairs else 1
    for part in range(batch - 1, least - 1, -1):
        if batch % part == 0 and part % least == 0:
            yield {"bs_trn": part, "accum_steps": accumulated * batch // part}
    if not classifies and not settings.augmentation.full_crop_training:
        height, width = settings.augmentation.crop_size
        for share in CROP_SHARES:
            sides = [int(side * share) // MULTIPLE * MULTIPLE for side in (height, width)]
            if min(sides) >= LEAST_SIDE:
                yield {"crop_size": tuple(sides)}


def evaluation_ways(settings: Settings) -> Iterator[Changes]:
    """The same for a validation."""
    batch, inference = settings.data.bs_val, settings.inference
    while batch > 1:
        batch //= 2
        yield {"bs_val": batch}
    if settings.classification.task != "segment":
        return
    if inference.slide_crop is None and inference.inference_mode == WHOLE:
        window = settings.augmentation.crop_size
        stride = tuple(max(int(side * STRIDE_SHARE), 1) for side in window)
        yield {"slide_crop": window, "slide_stride": stride}
    if inference.bs_window > 1 and inference.inference_mode != "pooling":
        yield {"bs_window": 1}


class Search:
    """Settings that fit, found by trying one way after the other.

    earlier: what an earlier part of the run has chosen.
    """

    def __init__(self, asked: Settings, earlier: Changes) -> None:
        self.asked = asked
        self.chosen: Changes = dict(earlier)
        self.misfit: DoesNotFit | None = None  # of what was asked for
        self._last: DoesNotFit | None = None
        self._base, self._tried = self.chosen, list[Changes]()
        start = with_values(asked, earlier)
        self._ways = {STEP: step_ways(start), EVALUATION: evaluation_ways(start)}

    @property
    def settings(self) -> Settings:
        """Those to try now."""
        return with_values(self.asked, self.chosen)

    def go_on(self, misfit: DoesNotFit) -> None:
        """Take the next way; UserError where there is none."""
        self.misfit = self.misfit or misfit
        self._base = self.chosen
        self._take(misfit)

    def give_up(self) -> bool:
        """The way that was just taken is none for this network or data; False where none was."""
        if self._last is None or self.chosen == self._base:
            return False
        self.chosen = self._base
        self._take(self._last)
        return True

    def _take(self, misfit: DoesNotFit) -> None:
        self._last = misfit
        way = next(self._ways[misfit.phase], None)
        if way is None:
            tried = "; ".join(words(each) for each in self._tried)
            raise UserError(
                f"{self.misfit}; {f'tried too, in vain: {tried}; ' if tried else ''}"
                "take a smaller network, or a machine with more memory"
            )
        self.chosen = {**self._base, **way}
        self._tried.append(self.chosen)

    def result(self, peaks: str) -> list[str]:
        """Lines about what was chosen; UserError that names it, unless `--auto_fit` allows it."""
        if self.misfit is None:
            return []
        if not self.asked.run.auto_fit:
            raise UserError(
                f"{self.misfit}; {words(self.chosen)} would do ({peaks}), --auto_fit finds that "
                "by itself"
            )
        return [f"--auto_fit: {self.misfit}", f"--auto_fit: {words(self.chosen)}", *self._effects()]

    def _effects(self) -> Iterator[str]:
        chosen, asked = self.chosen, self.asked
        if "grad_ckpt" in chosen:
            yield "--auto_fit: --grad_ckpt changes no result, steps take longer"
        if "bs_trn" in chosen:
            images = counted(asked.data.bs_trn * asked.optimiser.accum_steps, "image")
            yield (
                f"--auto_fit: the effective batch stays {images} of each process; batch "
                f"norm sees {chosen['bs_trn']} at a time instead of {asked.data.bs_trn}"
            )
        if "crop_size" in chosen:
            yield "--auto_fit: warning: training sees smaller crops than asked for"
        if "slide_crop" in chosen:
            yield "--auto_fit: warning: scores of validations are those of windows"

    def kept(self) -> dict[str, list[Any]]:
        """What a checkpoint keeps of it."""
        every = catalogue()
        return {
            name: [plain(every[name].of(self.asked)), plain(value)]
            for name, value in self.chosen.items()
        }


def earlier_choices(settings: Settings, content: Mapping[str, Any], title: str) -> Changes:
    """What `--auto_fit` has chosen for the file that is resumed, where the same was asked for.

    UserError for a damaged entry.
    """
    found: Changes = {}
    if not settings.run.auto_fit:
        return found
    kept = content.get(KEPT, {})
    if not isinstance(kept, dict):
        raise UserError(f"{title} is damaged: entry {KEPT} is no table")
    for name, pair in kept.items():
        if name not in FITTED or not isinstance(pair, list) or len(pair) != 2:
            raise UserError(f"{title} is damaged: entry {KEPT}.{name} is no pair of values")
        setting, (asked, chosen) = catalogue()[name], pair
        value = tuple(chosen) if isinstance(chosen, list) else chosen
        if problem := value_problem(setting, value):
            raise UserError(f"{title} is damaged: entry {KEPT}.{name}: {problem}")
        if plain(setting.of(settings)) == asked:
            found[name] = value
    return found


def words(changes: Changes) -> str:
    """Settings as one would type them."""
    return " ".join(
        f"--{name}" if value is True else f"--{name} {_typed(value)}"
        for name, value in changes.items()
    )


def _typed(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
