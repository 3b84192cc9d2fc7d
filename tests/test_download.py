"""Downloads against a server on this machine that behaves, and misbehaves, like real ones."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from danna_sep.errors import Cancelled, CorruptWeights, DownloadFailed, WriteFailed
from danna_sep.weights.download import WrongHash, download
from danna_sep.weights.originals import ORIGINAL, RECORD, Released, fetch_original
from danna_sep.weights.web_page import may_follow, next_address
from danna_sep.weights.web_session import Redirects

BODY = bytes(i * 7 % 251 for i in range(300_000))
SHA256 = hashlib.sha256(BODY).hexdigest()
QUOTA = (
    "<html><head><title>Google Drive - Quota exceeded</title></head><body><p>Sorry, you can't view or download this "
    "file at this time.</p><p>Too many users have viewed or downloaded this file recently.</p></body></html>"
)
FORM = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<p>Google Drive can't scan this file for viruses.</p>
<form id="download-form" action="{action}" method="get"><input type="submit" value="Download anyway"/>
<input type="hidden" name="id" value="ABC"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t">
<input type="hidden" name="uuid" value="1-2&amp;3"></form></body></html>"""
LINK = """<html><body><a href="/help">About</a>
<a id="uc-download-link" href="/old?export=download&amp;confirm=T0k&amp;id=ABC">Download anyway</a></body></html>"""


class Server(ThreadingHTTPServer):
    """Serves `body` under many paths, each with its own temper; remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.etag: str | None = '"one"'
        self.modified: str | None = None
        self.kept_back: tuple[str, ...] = ()
        self.n_drops = 0
        self.asked: list[tuple[str, str | None]] = []
        self.release = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.server.asked.append((self.path, self.headers.get("Range")))
        self.close_connection = True
        getattr(self, "at_" + parts.path.strip("/").replace("/", "_"), self.at_missing)(query)

    def head(self, status: int, **headers: str | int | None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Connection", "close")
        self.end_headers()

    def page(self, html: str, status: int = 200, **headers: str) -> None:
        data = html.encode()
        self.head(status, Content_Type="text/html; charset=utf-8", Content_Length=len(data), **headers)
        self.wfile.write(data)

    def file(self, ranges: bool = True, stated: int | None = None) -> None:
        body, begin, status = self.server.body, 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if ranges and wanted and self.headers.get("If-Range") in (None, self.server.etag, self.server.modified):
            begin, status = int(wanted[1]), 206
            if begin >= len(body):
                self.head(416, Content_Length=0)
                return
        n_bytes = len(body) - begin if stated is None else stated
        span = f"bytes {begin}-{len(body) - 1}/{len(body)}" if status == 206 else None
        names = {"ETag": self.server.etag, "Last_Modified": self.server.modified, "Content_Range": span}
        if status == 206:
            names |= dict.fromkeys(self.server.kept_back)
        self.head(status, Content_Type="application/octet-stream", Content_Length=n_bytes, **names)
        if self.server.n_drops > 0:
            self.server.n_drops -= 1
            body = body[: begin + 100_000]
        self.wfile.write(body[begin:])

    def at_file(self, query: dict[str, str]) -> None:
        self.file()

    def at_noranges(self, query: dict[str, str]) -> None:
        self.file(ranges=False)

    def at_short(self, query: dict[str, str]) -> None:
        self.file(stated=len(self.server.body) + 5)

    def at_redirect(self, query: dict[str, str]) -> None:
        self.head(302, Location="/file", Content_Length=0)

    def at_loop(self, query: dict[str, str]) -> None:
        self.head(302, Location="/loop", Content_Length=0)

    def at_local(self, query: dict[str, str]) -> None:
        self.head(302, Location="file:///etc/hostname", Content_Length=0)

    def at_ftp(self, query: dict[str, str]) -> None:
        self.head(302, Location="ftp://127.0.0.1/a", Content_Length=0)

    def at_missing(self, query: dict[str, str]) -> None:
        self.page("<html>gone</html>", 404)

    def at_busy(self, query: dict[str, str]) -> None:
        if self.server.n_drops > 0:
            self.server.n_drops -= 1
            self.head(503, Content_Length=0)
        else:
            self.file()

    def at_quota(self, query: dict[str, str]) -> None:
        self.page(QUOTA)

    def at_quota429(self, query: dict[str, str]) -> None:
        self.page(QUOTA, 429)

    def at_signin(self, query: dict[str, str]) -> None:
        self.page("<html><head><title>Sign\nin</title></head></html>")

    def at_disguised(self, query: dict[str, str]) -> None:
        data = b"\n<!DOCTYPE html><html>oops</html>"
        self.head(200, Content_Type="application/octet-stream", Content_Length=len(data))
        self.wfile.write(data)

    def at_unstated(self, query: dict[str, str]) -> None:
        self.head(200, Content_Type="application/octet-stream")
        self.wfile.write(self.server.body)

    def at_chunked(self, query: dict[str, str]) -> None:
        self.head(200, Content_Type="application/octet-stream", Transfer_Encoding="chunked")
        pieces = [self.server.body[:1000], self.server.body[1000:]]
        for piece in pieces[:1] if self.server.n_drops > 0 else [*pieces, b""]:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.server.n_drops -= 1

    def at_gzip(self, query: dict[str, str]) -> None:
        self.head(200, Content_Type="application/octet-stream", Content_Encoding="gzip", Content_Length=0)

    def at_slow(self, query: dict[str, str]) -> None:
        self.head(200, Content_Type="application/octet-stream", Content_Length=len(self.server.body), ETag='"one"')
        self.wfile.write(self.server.body[:5000])
        self.server.release.wait(20)
        self.wfile.write(self.server.body[5000:])

    # As Google Drive does it: a redirect, then a form; formerly a link, or a cookie alone.
    def at_uc(self, query: dict[str, str]) -> None:
        if query.get("id") == "small":
            self.head(303, Location="/file", Content_Length=0)
        else:
            self.head(303, Location=f"/scan?id={query['id']}", Content_Length=0)

    def at_scan(self, query: dict[str, str]) -> None:
        self.page(FORM.format(action="/download"), Set_Cookie="session=s1; Path=/")

    def at_download(self, query: dict[str, str]) -> None:
        right = {"id": "ABC", "export": "download", "confirm": "t", "uuid": "1-2&3"}
        if query == right and "session=s1" in self.headers.get("Cookie", ""):
            self.file()
        else:
            self.page("<html>wrong</html>", 400)

    def at_foreign(self, query: dict[str, str]) -> None:
        self.page(FORM.format(action=f"http://localhost:{self.server.server_port}/file"))

    def at_endless(self, query: dict[str, str]) -> None:
        self.page(FORM.format(action="/endless"))

    def at_old(self, query: dict[str, str]) -> None:
        confirmed = query.get("confirm") == "T0k" and "download_warning_1=T0k" in self.headers.get("Cookie", "")
        if confirmed:
            self.file()
        else:
            html = LINK if "link" in query else "<html>Cannot scan</html>"
            self.page(html, Set_Cookie="download_warning_1=T0k; Path=/")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    # A proxy that does not exist: whoever asks it for this machine fails.
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.release.set()
    made.shutdown()
    thread.join()
    made.server_close()


def fetch(server: Server, place: str, path: Path, **options: Any) -> str:
    return download(server.address + place, path, **{"backoff_s": 0.01, "retries": 2, "timeout_s": 5.0, **options})


def assert_only(path: Path, content: bytes = BODY) -> None:
    """The whole file is there, and nothing beside it."""
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def assert_fails(server: Server, place: str, path: Path, words: str, **options: Any) -> None:
    """One line that names the address; the file that was there before is untouched."""
    path.write_bytes(b"before")
    with pytest.raises(DownloadFailed, match=words) as caught:
        fetch(server, place, path, **options)
    assert "\n" not in str(caught.value)
    assert server.address in str(caught.value)
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize(
    "place",
    [
        *("/file", "/redirect", "/chunked", "/old?link=1&id=ABC", "/old?id=ABC"),
        *("/uc?id=small", "/uc?id=ABC", "/uc?export=download&id=ABC"),
    ],
)
def test_the_whole_file_comes(server: Server, tmp_path: Path, place: str) -> None:
    path = tmp_path / "new folder" / "a.pth"
    told: list[tuple[int, int | None]] = []
    got = fetch(server, place, path, sha256=SHA256.upper(), progress=lambda *now: told.append(now))
    assert got == SHA256
    assert_only(path)
    assert told[-1] == (len(BODY), None if place == "/chunked" else len(BODY))
    assert [n for n, _ in told] == sorted(n for n, _ in told)


def test_a_file_that_is_there_already_costs_no_request(server: Server, tmp_path: Path) -> None:
    fetch(server, "/file", tmp_path / "a", sha256=SHA256)
    n_asked = len(server.asked)
    assert fetch(server, "/file", tmp_path / "a", sha256=SHA256) == SHA256
    assert fetch(server, "/file", tmp_path / "a", sha256=SHA256[:8]) == SHA256
    assert len(server.asked) == n_asked
    server.body = b"other"
    assert fetch(server, "/file", tmp_path / "a") == hashlib.sha256(b"other").hexdigest()
    assert_only(tmp_path / "a", b"other")


def test_dropped_connections_are_resumed(server: Server, tmp_path: Path) -> None:
    """More drops than retries: each brings something new, so none of them counts as the last."""
    server.n_drops = 4
    server.modified = "Mon, 01 Jan 2024 00:00:00 GMT"
    fetch(server, "/file", tmp_path / "a", retries=1)
    assert_only(tmp_path / "a")
    assert ("/file", "bytes=100000-") in server.asked


@pytest.mark.parametrize("place", ["/uc?id=ABC", "/old?link=1"])
def test_downloads_behind_confirmation_pages_are_resumed(server: Server, tmp_path: Path, place: str) -> None:
    server.n_drops = 1
    fetch(server, place, tmp_path / "a")
    assert_only(tmp_path / "a")
    assert server.asked[-1][1] == "bytes=100000-"


def interrupt(server: Server, path: Path, place: str = "/file") -> None:
    """Leaves the first third of the file as a part."""
    server.n_drops = 1
    with pytest.raises(DownloadFailed, match="the connection broke after 100000 of 300000"):
        fetch(server, place, path, retries=0)
    assert not path.exists()
    assert (path.parent / f"{path.name}.part").read_bytes() == BODY[:100_000]
    server.asked.clear()


def test_a_later_call_resumes(server: Server, tmp_path: Path) -> None:
    interrupt(server, tmp_path / "a")
    fetch(server, "/file", tmp_path / "a")
    assert_only(tmp_path / "a")
    assert server.asked[-1] == ("/file", "bytes=100000-")


@pytest.mark.parametrize(
    ("etag", "kept_back"),
    [('"one"', ("Last_Modified",)), (None, ("Last_Modified",)), ('W/"one"', ("ETag",)), ('"one"', ())],
)
def test_a_rest_need_not_repeat_all_that_the_whole_said(
    server: Server, tmp_path: Path, etag: str | None, kept_back: tuple[str, ...]
) -> None:
    """As the standard has it for answers to If-Range: each try began anew, and a large file never came."""
    server.etag, server.modified, server.kept_back = etag, "Mon, 01 Jan 2024 00:00:00 GMT", kept_back
    interrupt(server, tmp_path / "a")
    fetch(server, "/file", tmp_path / "a")
    assert_only(tmp_path / "a")
    assert server.asked[-1] == ("/file", "bytes=100000-")
    assert len(server.asked) == 2


def test_a_part_that_is_already_whole_is_only_checked(server: Server, tmp_path: Path) -> None:
    interrupt(server, tmp_path / "a")
    (tmp_path / "a.part").write_bytes(BODY)
    fetch(server, "/file", tmp_path / "a")
    assert_only(tmp_path / "a")
    assert server.asked == [("/file", None)]


def test_a_server_that_ignores_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    interrupt(server, tmp_path / "a", "/noranges")
    fetch(server, "/noranges", tmp_path / "a")
    assert_only(tmp_path / "a")


@pytest.mark.parametrize("change", ["etag", "modified", "length"])
def test_a_file_that_changed_between_tries_is_never_patched_together(
    server: Server, tmp_path: Path, change: str
) -> None:
    server.modified = "Mon, 01 Jan 2024 00:00:00 GMT"
    server.etag = None if change == "modified" else '"one"'
    interrupt(server, tmp_path / "a")
    server.body = BODY[::-1]
    if change == "etag":
        server.etag = '"two"'
    elif change == "modified":
        server.modified = "Tue, 02 Jan 2024 00:00:00 GMT"
    else:
        server.body += b"!"
    fetch(server, "/file", tmp_path / "a")
    assert_only(tmp_path / "a", server.body)


def test_without_any_validator_a_part_counts_only_if_a_hash_will_judge_it(server: Server, tmp_path: Path) -> None:
    server.etag = None
    interrupt(server, tmp_path / "a")
    fetch(server, "/file", tmp_path / "a", sha256=SHA256)
    assert server.asked[-1] == ("/file", "bytes=100000-")
    (tmp_path / "a").unlink()
    interrupt(server, tmp_path / "a")
    fetch(server, "/file", tmp_path / "a")
    assert server.asked == [("/file", None)]
    assert_only(tmp_path / "a")


@pytest.mark.parametrize("notes", [None, "", "[]", '{"etag": "x"}'])
def test_a_part_of_unknown_origin_is_not_trusted(server: Server, tmp_path: Path, notes: str | None) -> None:
    (tmp_path / "a.part").write_bytes(b"x" * 1000)
    if notes is not None:
        (tmp_path / "a.part.json").write_text(notes)
    fetch(server, "/file", tmp_path / "a")
    assert_only(tmp_path / "a")


def test_a_wrong_hash_removes_the_part(server: Server, tmp_path: Path) -> None:
    assert_fails(server, "/file", tmp_path / "a", f"expected {'0' * 64}, got {SHA256}", sha256="0" * 64)
    assert_fails(server, "/file", tmp_path / "a", f"expected 00000000, got {SHA256}", sha256="00000000")
    assert_only(tmp_path / "a", b"before")


def test_a_wrong_length_is_refused(server: Server, tmp_path: Path) -> None:
    assert_fails(server, "/file", tmp_path / "a", "has 300000 bytes, not the expected 5", n_bytes=5)
    assert_fails(server, "/chunked", tmp_path / "a", "not the expected 5", n_bytes=5)
    assert_fails(server, "/chunked", tmp_path / "a", "after 300000 of 300001", n_bytes=300_001)
    server.etag = None
    assert_fails(server, "/short", tmp_path / "a", "after 300000 of 300005")


def test_a_download_whose_end_cannot_be_known_is_refused(server: Server, tmp_path: Path) -> None:
    """Else a dropped connection would pass for the end of the file."""
    assert_fails(server, "/unstated", tmp_path / "a", "does not say how long")
    assert fetch(server, "/unstated", tmp_path / "a", n_bytes=len(BODY)) == SHA256
    server.n_drops = 1
    assert fetch(server, "/chunked", tmp_path / "b") == SHA256
    server.n_drops = 100
    assert_fails(server, "/chunked", tmp_path / "c", "the connection broke")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("/nothing", "404"),
        ("/quota", "too many people.*danna-sep weights import"),
        ("/quota429", "too many people.*danna-sep weights import"),
        ("/signin", r"web page \(Sign in\) instead.*danna-sep weights import"),
        ("/disguised", "web page instead"),
        ("/foreign", r"another server \(localhost"),
        ("/endless", "one confirmation after another"),
        ("/loop", "302"),
        ("/local", "not allowed"),
        ("/ftp", "unsafe address"),
        ("/gzip", "without the plain file"),
        ("/a b", "not a valid address"),
    ],
)
def test_answers_that_are_not_the_file_are_refused_at_once(
    server: Server, tmp_path: Path, place: str, words: str
) -> None:
    assert_fails(server, place, tmp_path / "a", words, backoff_s=60.0)
    assert_only(tmp_path / "a", b"before")


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.n_drops = 2
    fetch(server, "/busy", tmp_path / "a")
    assert_only(tmp_path / "a")
    server.n_drops = 3
    assert_fails(server, "/busy", tmp_path / "b", "503")


def test_no_server_and_no_web_address(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="no connection"):
        download("http://127.0.0.1:9/", tmp_path / "a", retries=1, backoff_s=0.01)
    for address in (f"file://{tmp_path}/b", "ftp://127.0.0.1/b", "b", "http://["):
        with pytest.raises(DownloadFailed, match="address"):
            download(address, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_proxies_of_the_environment_are_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    download("http://files.invalid/file", tmp_path / "a")
    assert_only(tmp_path / "a")
    assert server.asked == [("http://files.invalid/file", None)]


def test_a_silent_server_is_given_up(server: Server, tmp_path: Path) -> None:
    assert_fails(server, "/slow", tmp_path / "a", "the connection broke", timeout_s=0.1, retries=0)


def test_cancelling_keeps_what_has_come(server: Server, tmp_path: Path) -> None:
    """Also while the server trickles: the block that has come is not waited full."""
    stop = threading.Event()
    with pytest.raises(Cancelled):
        fetch(server, "/slow", tmp_path / "a", cancel=stop.is_set, progress=lambda *_: stop.set())
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "a.part").read_bytes() == BODY[:5000]
    server.release.set()
    fetch(server, "/file", tmp_path / "a")
    assert ("/file", "bytes=5000-") in server.asked
    assert_only(tmp_path / "a")


def test_cancelling_works_between_tries_and_before_the_first(server: Server, tmp_path: Path) -> None:
    server.n_drops = 100
    begin = time.monotonic()
    with pytest.raises(Cancelled):
        fetch(server, "/busy", tmp_path / "a", backoff_s=60.0, cancel=lambda: time.monotonic() > begin + 0.3)
    assert time.monotonic() < begin + 10
    server.asked.clear()
    with pytest.raises(Cancelled):
        fetch(server, "/file", tmp_path / "a", cancel=lambda: True)
    assert server.asked == []


def test_a_full_disk_is_noticed_before(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=299_999))
    with pytest.raises(WriteFailed, match=r"300000 bytes to come, 299999 free"):
        fetch(server, "/file", tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WriteFailed):
        fetch(server, "/file", tmp_path / "file" / "a")
    with pytest.raises(WriteFailed, match="is a folder"):
        fetch(server, "/file", tmp_path)


def test_concurrent_processes_share_one_download(server: Server, tmp_path: Path) -> None:
    code = (
        "import sys; from danna_sep.weights.download import *; download(sys.argv[1], sys.argv[2], sha256=sys.argv[3])"
    )
    command = [sys.executable, "-c", code, server.address + "/file", tmp_path / "a", SHA256]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0] * 3
    assert_only(tmp_path / "a")
    assert len(server.asked) == 1


def test_concurrent_downloads_without_a_hash_do_not_mix(server: Server, tmp_path: Path) -> None:
    threads = [threading.Thread(target=fetch, args=(server, "/file", tmp_path / "a")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_only(tmp_path / "a")


@pytest.mark.parametrize(
    ("address", "target", "allowed"),
    [
        ("http://127.0.0.1:1/a", "http://127.0.0.1:2/b", True),
        ("https://drive.google.com/uc?id=1", "https://drive.usercontent.google.com/download", True),
        ("https://drive.google.com/uc?id=1", "https://doc-0.googleusercontent.com/x", True),
        ("https://drive.google.com/uc?id=1", "https://google.com/x", True),
        ("https://drive.google.com/uc?id=1", "http://drive.google.com/x", False),
        ("https://drive.google.com/uc?id=1", "http://drive.usercontent.google.com/x", False),
        ("https://drive.google.com/uc?id=1", "https://evilgoogle.com/x", False),
        ("https://drive.google.com/uc?id=1", "https://google.com.evil.org/x", False),
        ("https://drive.google.com/uc?id=1", "https://google.com@evil.org/x", False),
        ("https://drive.google.com/uc?id=1", "file:///etc/passwd", False),
        ("http://127.0.0.1/a", "ftp://127.0.0.1/a", False),
        ("http://127.0.0.1/a", "http://localhost/a", False),
    ],
)
def test_pages_lead_only_to_their_own_host_and_google(address: str, target: str, allowed: bool) -> None:
    assert may_follow(address, target) is allowed


def test_redirects_never_give_up_encryption() -> None:
    request = urllib.request.Request("https://127.0.0.1/a")
    with pytest.raises(DownloadFailed, match="unsafe address"):
        Redirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, "http://127.0.0.1/a")
    followed = Redirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, "https://127.0.0.1/b")
    assert followed is not None
    assert followed.full_url == "https://127.0.0.1/b"


def test_the_form_of_google_drive_is_followed_to_its_other_host() -> None:
    html = FORM.format(action="https://drive.usercontent.google.com/download?authuser=0")
    assert next_address(html, "https://drive.google.com/uc?id=ABC", {}) == (
        "https://drive.usercontent.google.com/download?authuser=0&id=ABC&export=download&confirm=t&uuid=1-2%263"
    )


def test_a_form_that_would_post_is_no_confirmation() -> None:
    html = FORM.format(action="/login").replace('method="get"', 'method="post"')
    with pytest.raises(DownloadFailed, match="Virus scan warning"):
        next_address(html, "https://drive.google.com/uc?id=ABC", {})


# --- the released checkpoints


def released(server: Server, third: str = "/file") -> dict[str, Released]:
    places = {"xumx": "/file", "unet": "/uc?id=ABC", "demucs": third}
    return {name: Released(f"{name}.pth", server.address + place) for name, place in places.items()}


def fetch_all(server: Server, folder: Path, third: str = "/file", **options: Any) -> dict[str, Path]:
    return fetch_original(folder, released=released(server, third), backoff_s=0.01, retries=1, **options)


def test_the_table_of_originals() -> None:
    assert {name: item.filename for name, item in ORIGINAL.items()} == {
        "xumx": "xumx_mwf.pth",
        "unet": "unet_attention.pth",
        "demucs": "demucs_4_decoders.pth",
    }
    assert len({item.url for item in ORIGINAL.values()}) == 3
    assert all(item.url.startswith("https://drive.google.com/uc?id=") for item in ORIGINAL.values())


def test_originals_are_fetched_once_and_their_hashes_kept(server: Server, tmp_path: Path) -> None:
    told: list[str] = []
    paths = fetch_all(server, tmp_path / "new", progress=lambda name, *_: told.append(name))
    assert paths == {name: tmp_path / "new" / f"{name}.pth" for name in ("xumx", "unet", "demucs")}
    assert all(path.read_bytes() == BODY for path in paths.values())
    assert list(dict.fromkeys(told)) == ["xumx.pth", "unet.pth", "demucs.pth"]
    record = json.loads((tmp_path / "new" / RECORD).read_text())
    assert record["unet.pth"] == {"sha256": SHA256, "n_bytes": len(BODY), "url": server.address + "/uc?id=ABC"}
    assert {path.name for path in (tmp_path / "new").iterdir()} == {*record, RECORD}
    server.asked.clear()
    assert fetch_all(server, tmp_path / "new") == paths
    assert server.asked == []


def test_what_was_fetched_before_a_failure_is_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="too many people"):
        fetch_all(server, tmp_path, third="/quota")
    assert set(json.loads((tmp_path / RECORD).read_text())) == {"xumx.pth", "unet.pth"}
    server.asked.clear()
    fetch_all(server, tmp_path)
    assert server.asked == [("/file", None)]


def test_a_later_download_that_differs_is_refused(server: Server, tmp_path: Path) -> None:
    """The authors publish no hashes: an exchanged file must not slip in."""
    paths = fetch_all(server, tmp_path)
    paths["xumx"].unlink()
    server.body, server.etag = BODY[::-1], '"two"'
    with pytest.raises(
        DownloadFailed, match=r"not the file of the first download.*xumx\.pth.*original\.json"
    ) as caught:
        fetch_all(server, tmp_path)
    assert isinstance(caught.value.__cause__, WrongHash)
    assert not paths["xumx"].exists()
    assert {path.name for path in tmp_path.iterdir()} == {"unet.pth", "demucs.pth", RECORD}


def test_a_damaged_original_is_fetched_again(server: Server, tmp_path: Path) -> None:
    paths = fetch_all(server, tmp_path)
    paths["unet"].write_bytes(b"damaged")
    fetch_all(server, tmp_path)
    assert paths["unet"].read_bytes() == BODY


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {}}', '{"a": {"sha256": 3}}'])
def test_a_damaged_record_is_named(server: Server, tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(CorruptWeights, match=r"original\.json: not the record"):
        fetch_all(server, tmp_path)
    assert server.asked == []
