# SPDX-License-Identifier: Apache-2.0
"""From settings to the optimiser and all that training changes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from assembly.maker import maker
from assembly.network import has_own_rates, param_rules
from assembly.rates import learning_rate
from assembly.resume import resume_rules
from assembly.run import Run
from assembly.snapshot import Snapshot
from engine import optim
from engine.hanet_groups import hanet_groups
from engine.param_groups import ParamRule, check_rules, describe, layer_factors, make_groups
from engine.resume_optimizer import check_optimizer, load_optimizer
from engine.resume_rules import recorded
from engine.state import Progress, TrainState
from engine.turns import Turns
from engine.whole import WHOLE, Whole
from network.contract import Network
from network.convert.input_norm import input_facts
from runtime.distributed import broadcast_contents
from runtime.errors import UserError
from settings import Settings, catalogue
from settings.kinds import OPTIMISERS

Parameters = Iterable[Tensor] | Iterable[dict[str, Any]]


def build_state(
    run: Run, net: nn.Module, header: dict[str, Any], snapshot: Snapshot | None, turns: Turns
) -> TrainState:
    """Optimiser, scaler, weight average and progress around `net`; `header` goes into files."""
    settings = run.settings
    rate, holding = learning_rate(settings, turns.ranks), _holding(run)
    ema, decay = None, settings.optimiser.ema
    if decay is not None:  # a copy of the network, which a split one does not allow
        broadcast_contents(net)  # ranks begin with other weights, and averages remember that
        ema = optim.WeightAverage(net, decay, holding)
        holding.shard(ema.module)
    holding.shard(net)
    if holding is not WHOLE:
        count = sum(item.numel() for item in holding.local(list(net.parameters())))
        run.log.msg(f"--shard: {count:,} parameters on each of {run.world.size} processes")
    optimizer = build_optimizer(settings, net, rate, snapshot, holding)
    if len(optimizer.param_groups) > 1:
        run.log.msg(describe(optimizer.param_groups))
    return TrainState(
        net=net,
        optimizer=optimizer,
        scaler=run.precision.scaler(),
        ema=ema,
        progress=Progress(epoch=settings.schedule.start_epoch),
        facts={**header, **input_facts(net)},
        turns=turns,
        holding=holding,
        rules=resume_rules(),
    )


def _holding(run: Run) -> Whole:
    """Whether each process keeps all weights, or a part (`--shard`)."""
    if not run.settings.run.shard:
        return WHOLE
    if run.world.size == 1:
        run.log.msg("--shard has no effect here: it needs several processes")
        return WHOLE
    from engine.sharded import Sharded  # loads half a second of torch that no other run needs

    return Sharded(run.world)


def build_optimizer(
    settings: Settings,
    net: nn.Module,
    rate: float,
    snapshot: Snapshot | None,
    holding: Whole = WHOLE,
) -> torch.optim.Optimizer:
    """The optimiser of the settings over the groups of `--param_rules`, of base rate `rate`.

    Vectors and biases of a classifier are not decayed. UserError for a rule without any
    parameter, and for a saved state of another optimiser or of other groups.
    """
    chosen = settings.optimiser
    _freeze(settings, net)
    groups = _groups(settings, net, rate)
    reads = OPTIMISERS[chosen.optimizer].reads
    optimizer = make_optimizer(
        groups,
        chosen.optimizer,
        lr=rate,
        weight_decay=chosen.weight_decay,
        holding=holding,
        **{option: catalogue()[name].of(settings) for option, name in reads.items()},
    )
    if settings.network.restore_optimizer:
        rates = [group["lr"] for group in optimizer.param_groups]
        load_optimizer(optimizer, _saved_optimizer(settings, snapshot, optimizer), holding)
        for group, own in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = own
    return optimizer


def make_optimizer(
    params: Parameters,
    name: str,
    *,
    lr: float,
    weight_decay: float = 0.0,
    holding: Whole = WHOLE,
    **options: object,
) -> torch.optim.Optimizer:
    """The optimiser `name` over `params` (tensors or torch's parameter groups).

    `options` are those that its row says it reads. ValueError for another name.
    """
    kind = OPTIMISERS.get(name)
    if kind is None:
        raise ValueError(f"--optimizer {name} is unknown; there are {', '.join(OPTIMISERS)}")
    fixed = dict(kind.fixed)
    if name in holding.unfused:
        fixed.pop("fused", None)
    made: torch.optim.Optimizer = maker(kind.made_by)(
        params, lr=lr, weight_decay=weight_decay, **fixed, **options
    )
    optim.arrange_moments(made)
    return made


def _freeze(settings: Settings, net: nn.Module) -> None:
    """Take from training what has no loss, and what `--train_only` leaves out."""
    if "ocr_alpha" in settings.given and not optim.has_auxiliary(net):
        raise UserError(
            f"--aux_weight has no effect on {settings.network.arch}, which has no auxiliary head; "
            "leave it out"
        )
    if settings.LOSS.OCR_ALPHA == 0:
        optim.freeze_auxiliary(net)
    if names := settings.classification.train_only:
        optim.freeze_others(net, tuple(text for text in names.split(",") if text))


def _groups(settings: Settings, net: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Parameter groups with rate and decay."""
    own, decay = settings.hanet, settings.optimiser.weight_decay
    if has_own_rates(settings):
        return hanet_groups(
            net.named_parameters(),
            lr=rate,
            weight_decay=decay,
            hanet_lr=own.hanet_lr,
            hanet_wd=own.hanet_wd,
            backbone_lr=own.backbone_lr,
        )
    texts = settings.optimiser.param_rules or ()
    rules = [ParamRule(key=key, lr=lr, decay=factor) for key, lr, factor in texts]
    check_rules([name for name, _ in net.named_parameters()], rules)
    return make_groups(
        [(name, item) for name, item in net.named_parameters() if item.requires_grad],
        rules,
        lr=rate,
        weight_decay=decay,
        decay_vectors=settings.classification.task == "segment",
        factors=_layer_factors(settings, net),
    )


def _layer_factors(settings: Settings, net: nn.Module) -> dict[str, float]:
    """Factors of the rate by parameter of `net`, as `--layer_decay` wants them."""
    decay = settings.optimiser.layer_decay
    if decay is None:
        return {}
    trunk = net.trunk if isinstance(net, Network) else None
    layers = {} if trunk is None else trunk.layer_numbers()
    if trunk is None or not layers:
        raise UserError(
            f"--layer_decay {decay:g} has no effect on {settings.network.arch}, whose trunk states "
            "no layers; leave it out"
        )
    parts = dict(trunk.named_parameters())  # `norm` of a trunk may be a part and a property
    own = {id(parts[name]): layer for name, layer in layers.items()}
    named = {name: own[id(item)] for name, item in net.named_parameters() if id(item) in own}
    return layer_factors(named, decay)


def _saved_optimizer(
    settings: Settings, snapshot: Snapshot | None, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """The state of such an `optimizer` in a checkpoint of this program; other orders of parameters
    differ.
    """
    if snapshot is None or "optimizer" not in snapshot.facts:
        raise UserError(
            "--restore_optimizer: --snapshot names no file with an optimiser state of this "
            "program; leave it out"
        )
    if snapshot.facts.get("param_rules", []) != param_rules(settings):
        raise UserError(
            "--restore_optimizer: --param_rules (--hanet_lr, --backbone_lr, --layer_decay) must be "
            "those of the run that wrote --snapshot"
        )
    kept, own = recorded(snapshot.facts), settings.optimiser
    for name, value in (("optimizer", own.optimizer), ("amsgrad", own.amsgrad)):
        if kept.get(name, value) != value:
            raise UserError(
                f"--restore_optimizer: --snapshot was trained with --{name} {kept[name]} (this run "
                f"{value}), which keeps another state; give it as it was, or leave "
                "--restore_optimizer out"
            )
    state: dict[str, Any] = snapshot.facts["optimizer"]
    try:
        check_optimizer(optimizer, state, "--restore_optimizer")
    except ValueError as error:
        raise UserError(str(error)) from None
    return state
