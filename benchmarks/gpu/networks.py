# SPDX-License-Identifier: Apache-2.0
"""Training steps and evaluations of one network of each system, in every way to compute them."""

from __future__ import annotations

import dataclasses
import gc
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assembly.inference import build_infer
from assembly.objective import build_objective
from assembly.optimiser import build_optimizer
from benchmarks.gpu.bench import Clock, Row, peak_flops, timed
from datasets.cityscapes import SPEC
from network.build import build_net
from network.inference import compiled, prepare_for_inference
from runtime.memory import is_out_of_memory
from runtime.precision import Precision, choose_precision
from settings import Settings, read_settings

TRAINING, EVALUATION = "training", "evaluation"
PRECISIONS = ("bf16", "fp16", "tf32", "fp32")
SECONDS = 1.5  # of one measurement
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network: its flags in training and in evaluation, and its batch, crop and image."""

    arch: str
    batch: int
    crop: tuple[int, int]
    image: tuple[int, int] = (1024, 2048)
    training: tuple[str, ...] = ()
    evaluation: tuple[str, ...] = ()

    def settings(self, *flags: str) -> Settings:
        """Those of a run of this network."""
        return read_settings(["--dataset", "nullloader", "--arch", self.arch, *flags])


CASES = {
    "hmsa": Case(
        arch="ocrnet.HRNet_Mscale",
        batch=2,
        crop=(512, 1024),
        training=("--rmi_loss", "--supervised_mscale_loss_wt", "0.05"),
        evaluation=("--n_scales", "0.5,1.0,2.0"),
    ),
    "segformer": Case(arch="segformer.B5", batch=4, crop=(512, 512)),
    "hrvit": Case(arch="hrvit.b3_SegFormer", batch=4, crop=(512, 512)),
    "unept": Case(arch="unept.R50", batch=4, crop=(480, 480), image=(480, 960)),
}
TINY = {  # seconds on a CPU
    "hmsa": Case(
        arch="ocrnet.HRNet_Mscale",
        batch=2,
        crop=(64, 64),
        image=(64, 128),
        training=(
            "--rmi_loss", "--set", "MODEL.hrnet_width=4", "--set", "MODEL.hrnet_modules=1,1,1",
            "--set", "MODEL.hrnet_blocks=1", "--set", "MODEL.ocr_mid_channels=16",
            "--set", "MODEL.ocr_key_channels=8", "--segattn_bot_ch", "8",
        ),
    )
}  # fmt: skip
TINY["hmsa"] = dataclasses.replace(
    TINY["hmsa"],
    evaluation=(*TINY["hmsa"].training[1:], *CASES["hmsa"].evaluation),
)


@dataclass(frozen=True)
class Way:
    """How a network is computed."""

    precision: str
    channels_last: bool
    compile: bool

    def __str__(self) -> str:
        words = [self.precision]
        words += ["channels_last"] * self.channels_last + ["compile"] * self.compile
        return " ".join(words)


def ways(precisions: Sequence[str]) -> list[Way]:
    """First all without the compiler, which takes a minute for each, then all with it."""
    every = itertools.product((False, True), precisions, (True, False))
    return [Way(precision, last, compiles) for compiles, precision, last in every]


class TrainingStep:
    """Forward, loss, backward and update of a network with random weights on a random batch."""

    def __init__(self, case: Case, way: Way, device: torch.device) -> None:
        settings = case.settings(*case.training)
        self.precision, _ = choose_precision(way.precision, device)
        torch.manual_seed(0)
        net = build_net(case.arch, SPEC.num_classes, **dataclasses.asdict(settings.MODEL))
        net = net.to(device).train()
        self.images, self.labels = _batch(case, device)
        if way.channels_last:
            net = net.to(memory_format=torch.channels_last)
            self.images = self.images.contiguous(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(settings, net, 0.01, None)
        self.scaler = self.precision.scaler()
        self.objective = build_objective(settings, SPEC)
        if way.compile:
            net.compile()
        self.net = net

    def __call__(self) -> Tensor:
        """One step; its loss."""
        with self.precision.autocast():
            outputs = self.net(self.images)
        found = {key: value.float() for key, value in outputs.items()}
        loss = self.objective(found, self.labels).total
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return loss.detach()


class Evaluation:
    """The prediction of one image as `eval.py` makes it."""

    def __init__(self, case: Case, way: Way, device: torch.device) -> None:
        settings = case.settings(*case.evaluation)
        self.precision, _ = choose_precision(way.precision, device)
        torch.manual_seed(0)
        net = build_net(case.arch, SPEC.num_classes, **dataclasses.asdict(settings.MODEL))
        ready = prepare_for_inference(net.to(device).eval())
        if way.compile:
            ready = compiled(ready)
        self.infer = build_infer(settings, ready, return_all=False)
        self.image = torch.randn(1, 3, *case.image, device=device)
        if way.channels_last:
            self.image = self.image.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self) -> Tensor:
        """Class ids (1, H, W)."""
        with self.precision.autocast():
            return self.infer(self.image, None)["pred"].argmax(1)


def _batch(case: Case, device: torch.device) -> tuple[Tensor, Tensor]:
    """Normalised noise (B, 3, H, W) and labels (B, H, W) in blocks, some of them ignored."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(case.batch, 3, *case.crop, generator=generator)
    blocks = torch.randint(0, SPEC.num_classes + 1, (case.batch, 1, 8, 8), generator=generator)
    blocks[blocks == SPEC.num_classes] = SPEC.ignore_label
    labels = nn.functional.interpolate(blocks.float(), case.crop, mode="nearest")[:, 0].long()
    return images.to(device), labels.to(device)


def measure(
    section: str, cases: dict[str, Case], device: torch.device, clock: Clock, compiles: bool
) -> Iterator[Row]:
    """A row for each network and way; those that the time is too short for say so."""
    made = TrainingStep if section == TRAINING else Evaluation
    known = [name for name in PRECISIONS if _can(name, device)]
    peaks: dict[str, float] = {}
    for way in ways(known):
        if (way.compile and not compiles) or (section == EVALUATION and not way.channels_last):
            continue
        precision, _ = choose_precision(way.precision, device)
        with precision.borrowed():
            for case in cases.values():
                name = f"{case.arch} {way}"
                if clock.is_up:
                    yield Row(section=section, name=name, problem="not run: the time was up")
                    continue
                peaks.setdefault(way.precision, _peak(precision, device))
                count = case.batch if section == TRAINING else 1
                try:
                    call = timed(made(case, way, device), device, SECONDS)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    yield Row(section=section, name=name, problem="out of memory")
                    continue
                finally:
                    _tidy(device, way)
                yield Row(
                    section=section,
                    name=name,
                    values=call.values(count, peaks[way.precision]),
                )


def _can(name: str, device: torch.device) -> bool:
    """Whether a device computes in it: on a CPU fp16 is bf16, and there is no tf32."""
    return device.type == "cuda" or name in ("bf16", "fp32")


def _peak(precision: Precision, device: torch.device) -> float:
    return peak_flops(device, DTYPES.get(precision.name, torch.float32), SECONDS / 5)


def _tidy(device: torch.device, way: Way) -> None:
    gc.collect()
    if way.compile:
        torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()
