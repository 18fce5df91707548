# SPDX-License-Identifier: Apache-2.0
"""The folder of an export behind a predictor; torch is not needed."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assembly.answer import Answer, Picture
from deploy.prediction import Classes
from runtime.errors import UserError

SPEC_FILE = "model.json"


def is_export(place: str) -> bool:
    """Whether `place` is the folder of an export."""
    return (Path(place) / SPEC_FILE).is_file()


def classes_of(spec: Mapping[str, Any], folder: Path) -> Classes:
    """The classes that model.json names; UserError where they do not have three-byte colours."""
    try:
        colours = np.array(spec["palette"], np.uint8).reshape(len(spec["classes"]), 3).tolist()
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{folder / SPEC_FILE} is damaged: palette does not hold a colour for each class"
        ) from error
    return Classes(
        names=tuple(map(str, spec["classes"])),
        palette=tuple((red, green, blue) for red, green, blue in colours),
        raw_ids=tuple(spec["ids"]),
    )


class Exported:
    """An export as `deploy.predictor.Network`; ONNX Runtime computes it.

    `options` that a checkpoint takes are refused: those of an export are inside it. UserError for
    a folder that is damaged or of another version, and without ONNX Runtime.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, folder: Path, device: object, options: Mapping[str, object]) -> None:
        for name in options:
            raise UserError(
                f"{name}= has no effect on {folder}: the options of an export are inside it; "
                "export again with others"
            )
        if device is not None:
            raise UserError(
                f"device={device} has no effect on {folder}: ONNX Runtime takes a GPU where it can"
            )
        try:
            from deploy.predict import ExportedModel
        except ImportError as error:
            raise UserError(f'{folder}: {error}; pip install ".[export]"') from error
        try:
            self._model = ExportedModel(folder)
        except ValueError as error:
            raise UserError(str(error)) from error
        spec: Mapping[str, Any] = self._model.spec
        self.arch = str(spec.get("arch", folder.name))
        self._folder, self._gives_ids = folder, spec["output"] == "ids"
        self.classes = classes_of(spec, folder)
        self._turn = threading.Lock()

    def answers(
        self, pictures: Sequence[Picture], names: Sequence[str], *, scores: bool = False
    ) -> list[Answer]:
        """One image after the other: the graph takes a single one."""
        if scores and self._gives_ids:
            raise UserError(
                f"{self._folder} gives ids alone; export with --output scores for scores and "
                "confidence"
            )
        return [
            self._answer(picture, name, scores)
            for picture, name in zip(pictures, names, strict=True)
        ]

    def _answer(self, picture: Picture, name: str, keep_scores: bool) -> Answer:
        try:
            with self._turn:
                found = self._model.run(picture)
        except ValueError as error:
            raise UserError(f"{name}: {error}") from error
        if self._gives_ids:
            return Answer(image=picture, ids=found)
        top = found.max(axis=0)
        total = np.zeros_like(top)
        for plane in found:  # a softmax would make a second map of all classes
            total += np.exp(plane - top)
        ids = found.argmax(axis=0).astype(np.uint8 if len(found) <= 256 else np.uint16)
        kept = found if keep_scores else None
        return Answer(image=picture, ids=ids, confidence=1 / total, scores=kept)
