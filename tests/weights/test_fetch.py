"""`racdino weights fetch` against a server on this machine: resumes, checks the hash, never leaves a wrong file."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.server
import os
import threading
from types import SimpleNamespace

import pytest

from racdino.weights import Architecture, Published, PublishedCheckpoint
from racdino.weights import fetch as fetch_module
from racdino.weights.fetch import FetchError, fetch

CONTENT = os.urandom(3_000_000)
ENTRY = Published("dinov2_vits14", hashlib.sha256(CONTENT).hexdigest(), Architecture(384, 12, 6))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server.options
        server.requests.append(self.headers.get("Range"))
        if server.answer != 200:
            self.send_error(server.answer)
            return
        begin = 0
        given = self.headers.get("Range")
        if given and server.ranges:
            begin = int(given.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        body = server.content[begin:]
        if server.lengths:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cut.pop(0)] if server.cut else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """`cut` lists after how many bytes the next connections end."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.options = SimpleNamespace(content=CONTENT, answer=200, ranges=True, lengths=True, cut=[], requests=[])
        running.options.url = f"http://127.0.0.1:{running.server_port}/file.pth"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.options
        running.shutdown()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def target(folder):
    return folder / ENTRY.file


def partial(folder):
    return folder / (ENTRY.file + ".part")


def test_a_file_arrives_whole_and_is_not_fetched_twice(server, tmp_path):
    folder = tmp_path / "new" / "folder"
    assert fetch(ENTRY, folder, server.url) == target(folder)
    assert target(folder).read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == [ENTRY.file]
    assert fetch(ENTRY, folder, server.url) == target(folder)
    assert server.requests == [None]


def test_progress_shows_rate_and_remaining_time(server, tmp_path, capsys):
    fetch(ENTRY, tmp_path, server.url)
    shown = capsys.readouterr().err
    assert ENTRY.file in shown
    assert "2.86M/2.86M" in shown
    assert "B/s]" in shown


def test_an_earlier_part_is_continued(server, tmp_path):
    partial(tmp_path).write_bytes(CONTENT[:1_000_000])
    fetch(ENTRY, tmp_path, server.url)
    assert target(tmp_path).read_bytes() == CONTENT
    assert server.requests == ["bytes=1000000-"]


def test_a_lost_connection_is_taken_up_where_it_ended(server, tmp_path):
    server.cut = [1_500_000, 700_000]
    fetch(ENTRY, tmp_path, server.url, pause=0)
    assert target(tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1500000-", "bytes=2200000-"]


def test_a_server_that_ignores_ranges_sends_it_from_the_start(server, tmp_path):
    server.ranges = False
    partial(tmp_path).write_bytes(b"x" * 1000)
    fetch(ENTRY, tmp_path, server.url)
    assert target(tmp_path).read_bytes() == CONTENT


def test_a_server_that_states_no_length(server, tmp_path):
    server.lengths = False
    fetch(ENTRY, tmp_path, server.url)
    assert target(tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_already_whole_is_put_in_place(server, tmp_path):
    partial(tmp_path).write_bytes(CONTENT)
    fetch(ENTRY, tmp_path, server.url)
    assert target(tmp_path).read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_started_anew(server, tmp_path):
    partial(tmp_path).write_bytes(CONTENT + b"more")
    fetch(ENTRY, tmp_path, server.url, pause=0)
    assert target(tmp_path).read_bytes() == CONTENT


def test_a_wrong_file_is_removed_and_never_put_in_place(server, tmp_path):
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(FetchError, match=f"instead of {ENTRY.sha256}: it was removed; try again, or another --url"):
        fetch(ENTRY, tmp_path, server.url)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_another_file_is_found_out_by_the_hash(server, tmp_path):
    partial(tmp_path).write_bytes(b"x" * 1000)
    with pytest.raises(FetchError, match="it was removed"):
        fetch(ENTRY, tmp_path, server.url)
    fetch(ENTRY, tmp_path, server.url)
    assert target(tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403])
def test_a_refusal_is_reported_at_once(server, tmp_path, status):
    server.answer = status
    with pytest.raises(FetchError, match=f"answers {status} .*: check the address or try another --url"):
        fetch(ENTRY, tmp_path, server.url)
    assert len(server.requests) == 1
    assert not target(tmp_path).exists()


def test_a_server_error_is_tried_again_and_the_part_is_kept(server, tmp_path):
    server.answer = 503
    partial(tmp_path).write_bytes(CONTENT[:1000])
    with pytest.raises(FetchError, match=r"cannot be reached \(Service Unavailable\): check the network"):
        fetch(ENTRY, tmp_path, server.url, pause=0)
    assert len(server.requests) == 5
    assert partial(tmp_path).read_bytes() == CONTENT[:1000]


def test_no_network(tmp_path):
    with pytest.raises(FetchError, match=r"cannot be reached .*https_proxy"):
        fetch(ENTRY, tmp_path, "http://127.0.0.1:1/file.pth", pause=0)
    assert list(tmp_path.iterdir()) == []


def test_the_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/file.pth"))
    fetch(ENTRY, tmp_path, "http://racdino.invalid/file.pth")
    assert target(tmp_path).read_bytes() == CONTENT


def test_an_interruption_keeps_the_part(server, tmp_path, monkeypatch):
    def interrupted(response, file, *_):
        file.write(response.read(1_234_567))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch_module, "_copy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(ENTRY, tmp_path, server.url)
    assert partial(tmp_path).read_bytes() == CONTENT[:1_234_567]
    fetch(ENTRY, tmp_path, server.url)
    assert target(tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1234567-"]


def test_a_full_disk_is_noticed_before_and_during_the_download(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(fetch_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(
            FetchError, match=r"the disk of .* is full: free some space and run this again, it continues"
        ):
            fetch(ENTRY, tmp_path, server.url)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fetch_module, "_copy", full)
        with pytest.raises(FetchError, match="is full"):
            fetch(ENTRY, tmp_path, server.url)
    fetch(ENTRY, tmp_path, server.url)


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FetchError, match=r"cannot write .*file.*\.part: "):
        fetch(ENTRY, tmp_path / "file", server.url)


def test_two_at_once_do_not_mix(server, tmp_path):
    with partial(tmp_path).open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FetchError, match=r"another process is writing .*\.part"):
            fetch(ENTRY, tmp_path, server.url)


def test_a_different_file_in_place_is_left_alone(server, tmp_path):
    target(tmp_path).write_bytes(b"mine")
    with pytest.raises(FetchError, match=r"is there but its sha256 is not .*: move it away, then fetch again"):
        fetch(ENTRY, tmp_path, server.url)
    assert target(tmp_path).read_bytes() == b"mine"


def test_only_http_addresses(tmp_path):
    with pytest.raises(FetchError, match="file:///etc/passwd is not an http or https address"):
        fetch(ENTRY, tmp_path, "file:///etc/passwd")


def test_of_a_checkpoint_the_published_first_digits_are_checked(server, tmp_path):
    digits = hashlib.sha256(CONTENT).hexdigest()[:8]
    right = PublishedCheckpoint("r50", "http://racdino.invalid", f"r50_20201009-{digits}.pth")
    assert fetch(right, tmp_path, server.url).read_bytes() == CONTENT
    assert fetch(right, tmp_path, server.url) == tmp_path / right.file
    wrong = PublishedCheckpoint("r50", "http://racdino.invalid", "r50_20201009-00000000.pth")
    with pytest.raises(FetchError, match=r"instead of 00000000\.\.\.: it was removed; try again, or another --url"):
        fetch(wrong, tmp_path, server.url)
    assert [path.name for path in tmp_path.iterdir()] == [right.file]
