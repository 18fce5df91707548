# SPDX-License-Identifier: Apache-2.0
"""The server behind the page: predictions, wrong files, many at once, and its end."""

from __future__ import annotations

import http.client
import io
import signal
import socket
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy import Predictor
from deploy.server import PageServer
from tests.deploy.conftest import scene
from tests.deploy.page_server import Reply, ask, ask_port, png, serving, started
from tests.program import assert_one_line_error, run

pytestmark = pytest.mark.slow


def png_of_size(width: int, height: int) -> bytes:
    """A well-formed PNG of a few bytes that claims to be large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def test_an_image_comes_back_with_what_the_predictor_says(
    server: PageServer, predictor: Predictor, photos: Path
) -> None:
    for path in (path for path in photos.rglob("*") if path.is_file()):
        wanted = predictor.predict(path)
        facts, parts = ask(server, "/predict", path.read_bytes()).parts()
        np.testing.assert_array_equal(parts["image"], wanted.image, err_msg=path.name)
        np.testing.assert_array_equal(parts["ids"], wanted.ids)
        np.testing.assert_array_equal(parts["confidence"], (wanted.confidence * 255).astype("u1"))
        stored = np.asarray(Image.open(io.BytesIO(parts["png"].tobytes())))
        np.testing.assert_array_equal(stored, wanted.ids)
        assert [each["name"] for each in facts["classes"]] == [each.name for each in wanted.classes]
        assert facts["classes"][0]["color"] == list(wanted.classes[0].color)


def test_twenty_at_once_wait_in_a_line_and_all_get_their_own_answer(
    server: PageServer, predictor: Predictor
) -> None:
    images = [scene(160, 192, seed=number) for number in range(20)]
    wanted = [predictor.predict(image).ids for image in images]
    with ThreadPoolExecutor(20) as pool:
        jobs = [
            pool.submit(ask, server, "/predict", png(image), {"X-Ticket": f"number-{number}"})
            for number, image in enumerate(images)
        ]
        places = set()
        while not all(job.done() for job in jobs):
            for number in (5, 19):
                places.add(ask(server, f"/line?ticket=number-{number}").body)
        answers = [job.result() for job in jobs]
    for answer, ids in zip(answers, wanted, strict=True):
        np.testing.assert_array_equal(answer.parts()[1]["ids"], ids)
    assert places - {b'{"before": null}', b'{"before": 0}'}, "nobody was seen to wait"


def test_a_full_line_is_told_when_to_come_back(predictor: Predictor) -> None:
    with serving(predictor, waiting=1) as server:
        address = server.server_address[:2]
        with socket.create_connection(address) as one, socket.create_connection(address) as two:
            for each in (one, two):  # announced, but not sent yet
                each.sendall(
                    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
                )
            end = time.monotonic() + 10
            while (answer := ask(server, "/predict", png(scene()))).status == 200:
                assert time.monotonic() < end
            assert answer.status == 503 and int(answer.headers["retry-after"]) > 0
            assert "a queue of 1 image is full" in answer.error
            assert ask(server).status == 200  # the page itself needs no place
        while ask(server, "/predict", png(scene())).status != 200:
            assert time.monotonic() < end, "those who left keep their places"


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"", 400, "the file is empty"),
        (b"a text that is called x.png", 400, "no known image format"),
        (png(scene())[:-700], 400, "truncated"),
        (png_of_size(60_000, 20_000), 400, "1200 million pixels"),
        (png_of_size(2_000, 1_000), 413, r"2000x1000 = 2.0 million pixels, at most 1 million"),
        (png_of_size(90, 90), 400, "image cannot be read"),
        (bytes(4_000_001), 413, "this file has 4.0 MB, at most 4 MB are taken"),
    ],
)
def test_a_wrong_file_is_one_line(
    data: bytes, status: int, words: str, server: PageServer, photos: Path
) -> None:
    answer = ask(server, "/predict", data)
    assert answer.status == status and words in answer.error, answer.body
    cut = (photos / "odd.jpg").read_bytes()[:1200]
    assert "truncated" in ask(server, "/predict", cut).error
    assert ask(server, "/predict", png(scene())).status == 200


def test_only_the_page_is_there_and_only_for_its_own_names(server: PageServer) -> None:
    page = ask(server)
    assert page.status == 200 and b"tiny &lt;net&gt;.pth: 3 classes" in page.body
    for path in ("/deploy/serve.py", "/../../../../etc/passwd", "//etc/passwd", "/page.html"):
        assert ask(server, path).status == 404
    assert ask(server, "/other", b"x").status == 404
    assert ask(server, headers={"Host": "evil.example"}).status == 403
    assert ask(server, "/predict", b"x", {"Host": "evil.example"}).status == 403
    assert ask(server, "/predict", b"x", {"Origin": "http://evil.example"}).status == 403
    assert ask(server, method="DELETE").status == 501
    unknown = {"Content-Length": "many"}
    assert ask(server, "/predict", b"", unknown, "POST").status == 411
    endless = {"Content-Length": "9" * 5000}
    assert ask(server, "/predict", b"", endless, "POST").status == 400  # no length that is one
    assert "script-src 'sha256-" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"


def test_the_page_names_no_address_outside(server: PageServer) -> None:
    text = ask(server).body.decode()
    assert "http://" not in text and "https://" not in text and "src=" not in text


def test_one_connection_serves_many_requests_and_bodies_that_nobody_wants(
    server: PageServer, predictor: Predictor
) -> None:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=60)
    try:
        for image in (scene(seed=1), scene(seed=2)):
            connection.request("POST", "/predict", png(image))
            answer = connection.getresponse()
            content = Reply(answer.status, {}, answer.read()).parts()[1]["ids"]
            np.testing.assert_array_equal(content, predictor.predict(image).ids)
        connection.request("GET", "/line?ticket=x", b"GET /etc/passwd HTTP/1.1\r\n\r\n")
        assert connection.getresponse().read() == b'{"before": null}'
    finally:
        connection.close()


def test_it_ends_cleanly_with_ctrl_c_and_gives_its_port_to_nobody_else(
    checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    process, port = started("--snapshot", str(checkpoint), "--n_scales", "0.5,1.0", "--do_flip")
    try:
        answer = ask_port(port, "/predict", (photos / "odd.jpg").read_bytes()).parts()[1]["ids"]
        wanted = Predictor(checkpoint, n_scales=(0.5, 1.0), flip=True).predict(photos / "odd.jpg")
        np.testing.assert_array_equal(answer, wanted.ids)
        other = run("-m", "deploy.serve", "--snapshot", str(checkpoint), "--port", str(port))
        assert_one_line_error(other, f"--port {port}", "--port 0 takes a free one")
        with socket.create_connection(("127.0.0.1", port)):  # an idle one holds nothing up
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, out + err
    assert "97x61 pixels" in out and out.splitlines()[-1].startswith("interrupted")
    assert err == ""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--snapshot FILE, --from_run DIR or --model DIR"),
        (["--model", "/nowhere"], "model.json"),
        (["--port", "70000"], "at most 65535"),
        (["--upload_mb", "0"], "above 0"),
        (["--snapshot", "none.pth"], "none.pth does not exist"),
        (["--snapsot", "none.pth"], "did you mean --snapshot"),
        (["--snapshot", "none.pth", "--lr", "0.1"], "--lr has no effect on"),
        (["--snapshot", "none.pth", "--eval=val"], "--eval has no effect on"),
        (["--snapshot", "none.pth", "--dump_all_images"], "--dump_all_images has no effect on"),
    ],
)
def test_wrong_flags_are_one_line(flags: list[str], words: str) -> None:
    assert_one_line_error(run("-m", "deploy.serve", *flags), words)


def test_an_address_of_another_machine_is_one_line(checkpoint: Path) -> None:
    done = run("-m", "deploy.serve", "--snapshot", str(checkpoint), "--host", "192.0.2.1")
    assert_one_line_error(done, "--host 192.0.2.1")
