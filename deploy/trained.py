# SPDX-License-Identifier: Apache-2.0
"""A network with its weights behind a predictor: the part of it that loads torch."""

from __future__ import annotations

from collections.abc import Sequence

from assembly.answer import Answer, Picture
from assembly.prediction import Segmenter
from deploy.prediction import Classes
from settings import Settings


class Trained:
    """A checkpoint as `deploy.predictor.Network`; `device` as `assembly.prediction.pick_device`."""

    def __init__(self, settings: Settings, device: str) -> None:
        self._segmenter = Segmenter(settings, device)
        spec = self._segmenter.spec
        self.arch = self._segmenter.settings.network.arch
        self.classes = Classes(
            names=spec.class_names, palette=spec.palette, raw_ids=spec.train_id_to_id
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """The lines that eval.py would have logged until now."""
        return self._segmenter.notes

    def answers(
        self, pictures: Sequence[Picture], names: Sequence[str], *, scores: bool = False
    ) -> list[Answer]:
        """See `assembly.prediction.Segmenter`."""
        return self._segmenter.answers(pictures, names, scores=scores)
