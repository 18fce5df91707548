# SPDX-License-Identifier: Apache-2.0
"""The page to try a network, in a browser (headless Chromium)."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy import Predictor
from deploy.server import PageServer
from tests.deploy.page_server import serving
from tests.program import run
from tests.reports.chrome import Chrome

pytestmark = pytest.mark.slow

DONE = "!find('result').hidden && find('status').hidden && find('facts').textContent.startsWith(%r)"
FIND = "const find = (id) => document.getElementById(id); "
PIXELS = """(() => { const c = document.getElementById('%s');
    return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; })()"""
BOX = """(() => { const b = document.getElementById('stage').getBoundingClientRect();
    return [b.left, b.top, b.width, b.height]; })()"""
SET = "(() => { const s = document.getElementById('%s'); s.value = %d; " + (
    "s.dispatchEvent(new Event('input')); })()"
)
CHECK = "(() => { " + FIND + "return %s; })()"


def send(chrome: Chrome, photo: Path) -> None:
    """Choose a file and wait for its prediction."""
    chrome.choose("#file", photo)
    chrome.wait(CHECK % (DONE % photo.name))


def pixels(chrome: Chrome, name: str, size: tuple[int, int]) -> np.ndarray:
    """The RGBA pixels (H, W, 4) of a canvas."""
    return np.array(chrome.run(PIXELS % name), np.uint8).reshape(*size, 4)


def text(chrome: Chrome, name: str) -> str:
    found = chrome.run(f"document.getElementById('{name}').textContent")
    assert isinstance(found, str)
    return found


def downloaded(folder: Path, name: str) -> np.ndarray:
    """The pixels of a file that the browser writes."""
    end = time.monotonic() + 20
    while not (folder / name).exists() or list(folder.glob("*.crdownload")):
        assert time.monotonic() < end, list(folder.iterdir())
        time.sleep(0.05)
    return np.asarray(Image.open(folder / name))


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_an_image_is_sent_looked_at_and_saved(
    chrome: Chrome, server: PageServer, predictor: Predictor, photos: Path, tmp_path: Path,
    width: int, dark: bool,
) -> None:  # fmt: skip
    photo = photos / "odd.jpg"
    wanted = predictor.predict(photo)
    chrome.save_downloads(tmp_path)
    chrome.visit(server.address, width, dark=dark)
    send(chrome, photo)
    assert chrome.run("document.documentElement.scrollWidth") <= width
    is_dark = sum(map(int, re.findall(r"\d+", chrome.run(BACKGROUND)))) < 200
    assert is_dark == dark

    lower, upper = pixels(chrome, "image", (61, 97)), pixels(chrome, "colors", (61, 97))
    np.testing.assert_array_equal(lower[..., :3], wanted.image)
    np.testing.assert_array_equal(upper[..., :3], wanted.color)
    assert (upper[..., 3] == 255).all()
    left, top, wide, high = chrome.run(BOX)
    assert abs(wide / high - 97 / 61) < 0.02 and wide > width / 2
    for x, y in ((10, 10), (48, 30), (80, 55)):  # what is under the pointer
        chrome.point(left + (x + 0.5) * wide / 97, top + (y + 0.5) * high / 61)
        name = wanted.known.names[wanted.ids[y, x]]
        sure = round(int(wanted.confidence[y, x] * 255) / 2.55)
        assert text(chrome, "readout") == f"{name}, {sure} % sure (x {x}, y {y})"

    listed = chrome.run("[...document.querySelectorAll('#classes button')].map(b => b.innerText)")
    assert [" ".join(line.split()) for line in listed] == [
        f"{each.name} {shown(each.share)}" for each in wanted.classes
    ]
    chrome.run("document.getElementById('ids').click()")
    np.testing.assert_array_equal(downloaded(tmp_path, "odd_ids.png"), wanted.ids)
    chrome.run(SET % ("opacity", 40))
    chrome.run("document.getElementById('composite').click()")
    joint = downloaded(tmp_path, "composited_odd.png")[..., :3].astype(int)
    assert abs(joint - wanted.composite(0.4)).max() <= 1
    assert chrome.problems == []
    assert {url.partition(":")[0] for url in chrome.requests} <= {"http", "data", "blob"}
    assert all(url.startswith(server.address) for url in chrome.requests if url.startswith("http"))


BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def shown(share: float) -> str:
    return f"{100 * share:.{2 if share < 0.1 else 1}f} %"


def test_the_ids_that_are_saved_are_those_of_eval(
    chrome: Chrome, server: PageServer, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    done = run(
        "eval.py", "--eval", "folder", "--eval_folder", str(photos / "turned.jpg"), "--snapshot",
        str(checkpoint), "--num_workers", "0", "--result_dir", str(tmp_path / "run"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (tmp_path / "saved").mkdir()
    chrome.save_downloads(tmp_path / "saved")
    chrome.visit(server.address, 1280)
    send(chrome, photos / "turned.jpg")
    chrome.run("document.getElementById('ids').click()")
    wanted = np.asarray(Image.open(tmp_path / "run" / "best_images" / "turned_prediction.png"))
    assert len(np.unique(wanted)) > 1
    np.testing.assert_array_equal(downloaded(tmp_path / "saved", "turned_ids.png"), wanted)


def test_slider_classes_and_keys_answer(
    chrome: Chrome, server: PageServer, predictor: Predictor, photos: Path
) -> None:
    photo = photos / "sub folder" / "alpha.png"
    wanted = predictor.predict(photo)
    chrome.visit(server.address, 1280)
    chrome.press("Tab")  # from the start of the page: theme, then the file
    send(chrome, photo)
    clip = "document.getElementById('colors').style.clipPath"
    assert chrome.run(clip) == "inset(0px 0px 0px 0%)"
    chrome.run("document.getElementById('cut').focus()")
    for _ in range(3):
        chrome.press("ArrowRight")
    assert chrome.run(clip) == "inset(0px 0px 0px 3%)"
    left, top, wide, high = chrome.run(BOX)
    chrome.point(left + 0.2 * wide, top + 0.5 * high, "mousePressed", pressed=True)
    chrome.point(left + 0.7 * wide, top + 0.5 * high, pressed=True)
    chrome.point(left + 0.7 * wide, top + 0.5 * high, "mouseReleased", pressed=True)
    assert chrome.run("document.getElementById('cut').value") == "70"
    assert chrome.run(clip) == "inset(0px 0px 0px 70%)"

    chosen = wanted.classes[-1]
    chrome.run("document.querySelector('#classes li:last-child button').click()")
    alone = pixels(chrome, "colors", (64, 96))[..., 3] == 255
    np.testing.assert_array_equal(alone, wanted.ids == chosen.id)
    pressed = "document.querySelectorAll('#classes [aria-pressed=true]').length"
    assert chrome.run(pressed) == 1
    chrome.run("document.querySelector('#classes li:last-child button').click()")
    assert chrome.run(pressed) == 0

    chrome.run("document.getElementById('stage').focus()")
    chrome.point(0, 0)
    chrome.press("ArrowRight")
    before = text(chrome, "readout")
    chrome.press("ArrowDown")
    place = [
        tuple(map(int, re.findall(r"[xy] (\d+)", line)))
        for line in (before, text(chrome, "readout"))
    ]
    assert place[1] == (place[0][0], place[0][1] + 1)
    assert not chrome.run("document.getElementById('cross').hidden")
    assert chrome.problems == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no image at all", "no known image format"),
        (b"", "the file is empty"),
        (b"\0" * 4_000_001, "at most 4 MB"),
    ],
)
def test_a_wrong_file_is_said_and_the_next_one_is_shown(
    chrome: Chrome, server: PageServer, photos: Path, tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "text.png").write_bytes(content)
    chrome.visit(server.address, 400)
    chrome.choose("#file", tmp_path / "text.png")
    chrome.wait(CHECK % "!find('problem').hidden")
    said = text(chrome, "problem")
    assert said.startswith("text.png") and words in said and "this file" not in said
    assert chrome.run("document.documentElement.scrollWidth") <= 400
    assert chrome.run("document.getElementById('result').hidden")
    send(chrome, photos / "plain.png")
    assert chrome.run("document.getElementById('problem').hidden")


def test_a_server_that_ends_or_is_gone_is_said(
    chrome: Chrome, predictor: Predictor, photos: Path
) -> None:
    with serving(predictor) as server:
        chrome.visit(server.address, 1280)
        send(chrome, photos / "plain.png")
    chrome.choose("#file", photos / "odd.jpg")  # on a connection that is still open
    chrome.wait(CHECK % "!find('problem').hidden")
    assert text(chrome, "problem") == "odd.jpg: the server is being stopped"
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    chrome.call("Network.emulateNetworkConditions", offline=True, **network)
    try:
        chrome.choose("#file", photos / "plain.png")
        chrome.wait(CHECK % "find('problem').textContent.startsWith('plain.png')")
        assert "is it still running?" in text(chrome, "problem")
    finally:
        chrome.call("Network.emulateNetworkConditions", offline=False, **network)
    assert "plain.png" in text(chrome, "facts")
