# SPDX-License-Identifier: Apache-2.0
"""Mixed batches: targets follow the images, draws follow the random state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from config import UserError
from datasets.batch import Batch
from engine.mixing import BatchMixer, Mixing, UnreadableLog
from runtime import seeds

LABELS = torch.tensor([0, 1, 2, 3])


def batch() -> Batch:
    """Images that hold their own number, so that shares can be read from them."""
    images = LABELS.float()[:, None, None, None].expand(4, 3, 8, 8).clone()
    return Batch(images=images, labels=LABELS.clone(), names=list("abcd"), indices=[0, 1, 2, 3])


def mixed(epoch: int = 0, **options) -> Batch:
    return BatchMixer(Mixing(**{"smoothing": 0.0, **options}), 4, 4)(batch(), epoch)


def test_mixup_blends_a_batch_with_its_reverse_and_targets_alike() -> None:
    np.random.seed(3)
    result = mixed(cutmix=0.0)
    share = float(result.labels[0, 0])
    assert 0 < share < 1
    torch.testing.assert_close(result.labels[0], torch.tensor([share, 0, 0, 1 - share]))
    torch.testing.assert_close(result.images[0], torch.full((3, 8, 8), 3 * (1 - share)))


def test_cutmix_targets_are_the_shares_of_the_area() -> None:
    np.random.seed(0)
    result = mixed(mixup=0.0)
    pasted = float((result.images[0] == 3).float().mean())
    assert 0 < pasted < 1
    torch.testing.assert_close(result.labels[0], torch.tensor([1 - pasted, 0, 0, pasted]))


def test_smoothing_is_part_of_the_mixed_target() -> None:
    result = mixed(smoothing=0.1)
    assert float(result.labels.min()) >= 0.1 / 4 - 1e-6
    torch.testing.assert_close(result.labels.sum(1), torch.ones(4))


def test_mixing_ends_with_its_epoch() -> None:
    assert torch.equal(mixed(epoch=5, off_epoch=5).images, batch().images)
    np.random.seed(0)
    assert not torch.equal(mixed(epoch=4, off_epoch=5).images, batch().images)


def test_saved_random_state_gives_the_same_mixture() -> None:
    seeds.seed_everything(5, 0, deterministic=False)
    state = seeds.random_state()
    first = mixed()
    mixed()
    seeds.set_random_state(state)
    again = mixed()
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)


def test_odd_batches_can_not_be_paired() -> None:
    with pytest.raises(UserError, match="--bs_trn 5: .*even number"):
        BatchMixer(Mixing(), 4, 5)


def test_an_unreadable_file_is_logged_once() -> None:
    lines: list[str] = []
    log = UnreadableLog(lines.append, "left out")
    broken = Batch(
        images=torch.empty(0, 3, 0, 0), labels=None, names=[], indices=[],
        failed=[("n1/a.JPEG", "set/n1/a.JPEG: image cannot be read: truncated")],
    )  # fmt: skip
    log.note(broken)
    log.note(broken)
    assert lines == ["not read, left out: set/n1/a.JPEG: image cannot be read: truncated"]
    assert log.count == 1


def test_later_logs_of_a_run_know_what_was_named() -> None:
    lines: list[str] = []
    named: set[str] = set()
    broken = Batch(
        images=torch.empty(0, 3, 0, 0), labels=None, names=[], indices=[],
        failed=[("n1/a.JPEG", "truncated")],
    )  # fmt: skip
    for _ in range(2):
        log = UnreadableLog(lines.append, "left out", named)
        log.note(broken)
        assert log.lines == {"n1/a.JPEG": "truncated"}
    assert len(lines) == 1
