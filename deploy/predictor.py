# SPDX-License-Identifier: Apache-2.0
"""A trained network for Python: arrays, files and videos in, predictions out.

    predictor = Predictor("logs/harbour/best_checkpoint_ep120.pth", n_scales=(0.5, 1.0))
    prediction = predictor.predict("street.jpg")
    prediction.ids, prediction.confidence, prediction.classes

What comes out is what `eval.py --eval folder` writes with the same options. Nothing of the process
changes: no threads, no random generators, no directories. Several predictors can be used side by
side, and each from several threads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Protocol, overload

from assembly.answer import Answer, Picture
from deploy.exported import Exported, is_export
from deploy.pixels import Source, as_picture, name_of
from deploy.prediction import Classes, Prediction, Scores
from reports.image_dump import BLEND
from runtime.errors import UserError
from runtime.remote import is_remote
from settings import Settings
from settings.keywords import read_keywords

FilePath = str | os.PathLike[str]
OnError = Callable[[str, UserError], object]

RUN_FILE = "run.json"
TOGETHER = 4  # images of one size that go through the network in one pass
STRIDE_SHARE = 0.75  # of a window, from one to the next, where the user does not say


class Network(Protocol):
    """What answers: a network with its weights, or an export of one."""

    arch: str
    classes: Classes

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for whoever wants to know more."""

    def answers(
        self, pictures: Sequence[Picture], names: Sequence[str], *, scores: bool = False
    ) -> list[Answer]:
        """What it says about images of one size; UserError for those that it refuses."""


class Predictor:
    """A segmentation network with its weights, see the module.

    path: a checkpoint of this program, a run directory, a file of other programs (with `arch=` and
    `dataset=`), a name to fetch such as "hf:OWNER/NAME", or the folder of an export. device: of
    torch, as "cuda:1"; CUDA where there is one. precision: fp32, tf32, fp16 or bf16. n_scales: of
    networks that join several scales. flip: average with the mirrored image. slide_crop: windows of
    so many pixels, three quarters of one to the next unless `slide_stride=` says otherwise.
    options: any other flag of `eval.py` about a prediction, by its name: `arch="segformer.B0"`,
    `multi_scale_inference=True`, `set=["MODEL.hrnet_width=18"]`.

    arch: its architecture. classes: what the ids stand for. Raises UserError, a ValueError of one
    line.
    """

    def __init__(
        self,
        path: FilePath,
        device: object = None,
        precision: str | None = None,
        n_scales: Sequence[float] | None = None,
        flip: bool = False,
        slide_crop: int | tuple[int, int] | None = None,
        **options: object,
    ) -> None:
        named = {"precision": precision, "n_scales": n_scales, "slide_crop": slide_crop}
        options = {**options, **named, "do_flip": flip or options.get("do_flip")}
        given = {k: v for k, v in options.items() if v is not None and v is not False}
        place = os.fspath(path)
        if is_export(place):
            self._network: Network = Exported(Path(place), device, given)
        else:
            settings = read_keywords(_source(place), _with_stride(given))
            self._network = _open(settings, device)
        self.arch, self.classes = self._network.arch, self._network.classes

    @classmethod
    def of_settings(cls, settings: Settings, device: object = None) -> Predictor:
        """The same from the settings of a program."""
        self = cls.__new__(cls)
        self._network = _open(settings, device)
        self.arch, self.classes = self._network.arch, self._network.classes
        return self

    @property
    def notes(self) -> tuple[str, ...]:
        """The lines that eval.py would have logged until now."""
        return self._network.notes

    def predict(self, image: Source, *, scores: bool = False) -> Prediction:
        """One image: a path, an array (H, W, 3) uint8 RGB, a PIL image or a uint8 tensor.

        scores: keep those of all classes, which take much memory; without, `Prediction.scores` asks
        the network again. UserError for an image that cannot be read or predicted.
        """
        return self.predict_batch([image], scores=scores)[0]

    def predict_batch(
        self, images: Iterable[Source], *, scores: bool = False, together: int = TOGETHER
    ) -> list[Prediction]:
        """Several images, in their order; up to `together` of one size take one pass."""
        if together < 1:
            raise UserError(f"together={together}: at least 1 wanted")
        sources = list(images)
        pictures = [as_picture(source) for source in sources]
        names = [name_of(source, number) for number, source in enumerate(sources, 1)]
        found: dict[int, Prediction] = {}
        for group in _groups([picture.shape for picture in pictures], together):
            chosen = [(names[number], pictures[number]) for number in group]
            found.update(zip(group, self._predictions(chosen, scores), strict=True))
        return [found[number] for number in range(len(pictures))]

    def predict_files(
        self, paths: FilePath | Iterable[FilePath], *, on_error: OnError | None = None
    ) -> Iterator[Prediction]:
        """One prediction per file; a folder stands for all images below it.

        on_error: called with the path and the error of a file that cannot be read or predicted,
        which is then left out; without it that error ends the iteration.
        """
        for path in _files(paths):
            try:
                prediction = self.predict(path)
            except UserError as error:
                if on_error is None:
                    raise
                on_error(os.fsdecode(path), error)
            else:
                yield prediction

    @overload
    def predict_video(self, path: FilePath) -> Iterator[Prediction]: ...

    @overload
    def predict_video(self, path: FilePath, out: FilePath, alpha: float = ...) -> int: ...

    def predict_video(
        self, path: FilePath, out: FilePath | None = None, alpha: float = BLEND
    ) -> Iterator[Prediction] | int:
        """The frames of a video: an iterator, or with `out` written there as composites.

        With `out` the number of frames is returned; the video has the rate and size of `path`.
        Errors are UserErrors; of a damaged video the frames before the damage are given or written.
        """
        from datasets.video import open_video

        if out is not None and os.path.realpath(out) == os.path.realpath(path):
            raise UserError(f"{os.fsdecode(out)} is the video itself; name another file for out")
        video = open_video(Path(path))
        predictions = (
            self.predict_picture(frame, f"{os.fsdecode(path)}, frame {number}")
            for number, frame in enumerate(video)
        )
        return predictions if out is None else _written(predictions, Path(out), video.fps, alpha)

    def predict_picture(self, picture: Picture, name: str) -> Prediction:
        """An image that is uint8 (H, W, 3) RGB already; messages call it `name`."""
        return self._predictions([(name, picture)], False)[0]

    def _predictions(self, named: Sequence[tuple[str, Picture]], scores: bool) -> list[Prediction]:
        """Images of one size, in one pass."""
        names, pictures = [name for name, _ in named], [picture for _, picture in named]
        answers = self._network.answers(pictures, names, scores=scores)
        return [
            Prediction(
                image=answer.image,
                ids=answer.ids,
                known=self.classes,
                name=name,
                given_confidence=answer.confidence,
                give_scores=partial(self._scores, name, picture, answer.scores),
            )
            for answer, (name, picture) in zip(answers, named, strict=True)
        ]

    def _scores(self, name: str, picture: Picture, kept: Scores | None) -> Scores:
        """Those that were kept, or those of another pass."""
        if kept is not None:
            return kept
        found = self._network.answers([picture], [name], scores=True)[0].scores
        assert found is not None, "scores were wanted"
        return found


def _open(settings: Settings, device: object) -> Network:
    """The network that `settings` describe; only here is torch loaded."""
    from deploy.trained import Trained

    return Trained(settings, "" if device is None else str(device))


def _source(place: str) -> dict[str, str]:
    """The flag that takes `place`: a run directory, or weights in any form."""
    is_run = not is_remote(place) and (Path(place) / RUN_FILE).is_file()
    return {"from_run": place} if is_run else {"snapshot": place}


def _with_stride(options: dict[str, object]) -> dict[str, object]:
    """`options` whose windows have a stride."""
    crop = options.get("slide_crop")
    if crop is None or "slide_stride" in options:
        return options
    sides = crop if isinstance(crop, list | tuple) else (crop,)
    if not all(isinstance(side, int) for side in sides):
        return options  # of the wrong type, which the converter says
    stride = tuple(max(round(STRIDE_SHARE * side), 1) for side in sides)
    return {**options, "slide_stride": stride}


def _groups(shapes: Sequence[tuple[int, ...]], together: int) -> Iterator[list[int]]:
    """Numbers of images of one size, at most `together` of them at a time."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for number, shape in enumerate(shapes):
        by_shape.setdefault(shape, []).append(number)
    for numbers in by_shape.values():
        yield from (numbers[i : i + together] for i in range(0, len(numbers), together))


def _files(paths: FilePath | Iterable[FilePath]) -> Iterable[FilePath]:
    """Single files: those of an iterable, or of a folder, as `--eval_folder` finds them."""
    if not isinstance(paths, str | os.PathLike):
        return paths
    from datasets.folder import list_items
    from datasets.video import is_video

    return [item.image for item in list_items(Path(paths), asked="") if not is_video(item.image)]


def _written(
    predictions: Iterator[Prediction], out: Path, fps: Fraction | float, alpha: float
) -> int:
    """Write the composites to `out`; their number. What came before a damage is kept."""
    from datasets.video import VideoDamage
    from reports.video_writer import VideoWriter

    writer: VideoWriter | None = None
    damage: VideoDamage | None = None
    try:
        with contextlib.ExitStack() as stack:
            try:
                for prediction in predictions:
                    if writer is None:
                        writer = stack.enter_context(VideoWriter(out, fps, prediction.size))
                    writer.add(prediction.composite(alpha))
            except VideoDamage as error:
                damage = error
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror or error}") from error
    if damage is not None:
        raise damage
    return 0 if writer is None else writer.frames
