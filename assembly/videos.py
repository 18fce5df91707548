# SPDX-License-Identifier: Apache-2.0
"""The videos of an evaluated folder, one after the other, each on one rank."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from assembly.data import eval_transform
from assembly.dump_key import image_stamps
from assembly.room import eval_workers
from assembly.run import Run
from assembly.sinks import tree_plan, wants_trees
from datasets.frames import FrameLoader
from datasets.spec import DatasetSpec, Item
from datasets.video import Video, open_video
from engine.compute import Watch
from engine.evaluate import EvalRules, evaluate
from engine.predict import Infer
from reports.stored_images import ImageRow, StoredImages
from reports.trees import TreePlan, TreeWriter, manifest_line
from reports.video_dump import VideoSink, VideoUnwritten
from reports.writers import Writers
from runtime.distributed import APART
from runtime.errors import UserError
from runtime.names import output

COMPOSITE = "composite"  # folder of the videos of predictions, as of the images


@dataclass(frozen=True, kw_only=True)
class VideosFound:
    """The same on every rank. lines: of the manifest; frames: predicted in this run; skipped:
    videos that an earlier run has finished; unreadable: a line per video that is not whole."""

    lines: list[str]
    frames: int
    skipped: int
    seconds: float
    unreadable: list[str]
    not_finite: int


class VideoRun:
    """Predicts `items`, videos, with `infer` and `rules`; `key` as for the sinks of images.

    For each a video of composites, and the trees that the settings ask for, frame by frame.
    """

    def __init__(
        self, run: Run, spec: DatasetSpec, items: Sequence[Item], rules: EvalRules, key: str
    ) -> None:
        self.run, self.spec, self.items = run, spec, items
        self.rules = replace(rules, metrics=False, val_loss=None, skip_refused=False)
        plan = TreePlan()
        if wants_trees(run.settings):
            plan = replace(tree_plan(run.settings, spec), composite=False)
        self.plan, self.failed = plan, list[str]()
        self.stored = StoredImages(
            run.directory, "videos", f"{key} {plan}", run.world.rank, image_stamps(items)
        )
        self.writers = Writers(eval_workers(run.settings), lambda shares, facts: None)
        self.trees: TreeWriter | None = None
        if plan.endings(spec):
            self.trees = TreeWriter(run.directory, spec, plan, self.writers)
        self.frames = self.skipped = self.not_finite = 0

    def predict(self, infer: Infer) -> VideosFound:
        """All videos; collective. A video that is broken, or cannot be predicted, costs a line."""
        start, world = time.monotonic(), self.run.world
        for index in range(world.rank, len(self.items), world.size):
            item = self.items[index]
            if item.name in self.stored:
                self.skipped += 1
                self._note_damage(item.name, self.stored.rows[item.name])
                continue
            try:
                self._one(item, index, infer)
            except UserError as error:
                self._fail(item.name, str(error))
        for name, why in self.writers.finish():
            self._fail(name, str(why))
        return self._gathered(time.monotonic() - start)

    def _fail(self, name: str, reason: str) -> None:
        self.run.log.msg_any_rank(f"failed: {name}: {reason}")
        self.failed.append(f"{name}: {reason}")

    def _note_damage(self, name: str, row: ImageRow) -> None:
        if damage := row.facts.get("damage"):
            self._fail(name, damage)

    def _one(self, item: Item, index: int, infer: Infer) -> None:
        """One video from its first frame to its last, or to its damage; UserError if it failed.

        The frames before are kept in each case.
        """
        video = open_video(item.image)
        file = f"{COMPOSITE}/{output(item.name, after='.mp4')}"
        sink = VideoSink(self.run.directory / file, self.spec, video.fps, video.size, self.trees)
        try:
            damage = self._pass(item.name, video, sink, infer)
        except VideoUnwritten:
            sink.discard()
            raise
        except UserError:
            _close(sink)
            raise
        except BaseException:
            sink.discard()
            raise
        facts = {**sink.facts.as_dict(), "fps": round(float(video.fps), 4), "damage": damage}
        folders = {} if self.trees is None else self.trees.files(item.name, _folder)
        row = ImageRow(
            name=item.name,
            index=index,
            size=video.size,
            files={COMPOSITE: file, **folders},
            facts=facts,
        )
        self.stored.add(row)
        self.frames += sink.facts.frames
        self.run.log.msg_any_rank(f"{item.name}: {sink.facts.frames} frames: {file}")
        self._note_damage(item.name, row)

    def _pass(self, name: str, video: Video, sink: VideoSink, infer: Infer) -> str:
        """Predict every frame; what is wrong with the video, or nothing."""
        settings = self.run.settings
        count = settings.data.bs_val
        frames = FrameLoader(video, name, eval_transform(settings, self.spec), count)
        watch = self.run.watch(f"video {name}, frames")

        def progress(done: int, total: int | None) -> None:
            del total
            shown = (
                done * count if video.num_frames is None else min(done * count, video.num_frames)
            )
            watch.progress(shown, video.num_frames)

        summary = evaluate(
            infer,
            frames,
            self.spec,
            self.run.compute,
            sinks=[sink],
            rules=self.rules,
            ranks=APART,
            watch=Watch(progress=progress),
        )
        self.not_finite += summary.not_finite
        return "; ".join(line.removeprefix(f"{name}: ") for line in summary.unreadable)

    def _gathered(self, seconds: float) -> VideosFound:
        """What all ranks have done."""
        own = self.stored.rows, self.failed, self.frames, self.skipped, self.not_finite
        every = self.run.ranks.gather(own)
        images = {item.name: item for item in self.items}
        rows = self.stored.merge([each[0] for each in every])
        return VideosFound(
            lines=[manifest_line(row, images[row.name], self.spec) for row in rows],
            unreadable=sorted(line for each in every for line in each[1]),
            frames=sum(each[2] for each in every),
            skipped=sum(each[3] for each in every),
            not_finite=sum(each[4] for each in every),
            seconds=seconds,
        )


def _close(sink: VideoSink) -> None:
    """Keep the frames so far, unless they are what is wrong."""
    try:
        sink.close(APART.rank, APART.size, APART.gather)
    except UserError:
        sink.discard()


def _folder(name: str, *, after: str) -> str:
    """The folder of the frames of a video in a tree, whatever their files end in."""
    del after
    return str(output(name))
