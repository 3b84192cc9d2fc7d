"""Requests of the web: redirects, cookies, confirmation pages, and which faults may pass by themselves."""

from __future__ import annotations

import http.client
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar
from typing import Any

from danna_sep.errors import DownloadFailed
from danna_sep.weights.web_page import BY_HAND, is_downgrade, is_web, next_address, refuse_quota

_MAX_PAGES = 3
_MAX_PAGE_BYTES = 1 << 20
_SPAN = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_WORTH_RETRYING = {408, 425, 429, 500, 502, 503, 504}


class Dropped(Exception):
    """This try failed, the next may not."""


@dataclass(frozen=True)
class Facts:
    """What the server says of the file; by it we know the same file again."""

    etag: str | None
    last_modified: str | None
    total: int | None

    @classmethod
    def of(cls, response: Any) -> Facts:
        """From the headers of a whole answer."""
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        return cls(response.headers.get("ETag"), response.headers.get("Last-Modified"), total)

    @property
    def validator(self) -> str | None:
        """What vouches for equal bytes: a strong ETag, or the date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class Session:
    """Talks to the server of one file, with the cookies that it sets."""

    def __init__(self, url: str, timeout_s: float, check_cancel: Callable[[], None]) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._check_cancel = check_cancel
        self._jar = CookieJar()
        self._opener = urllib.request.build_opener(Redirects(), urllib.request.HTTPCookieProcessor(self._jar))

    def whole(self) -> Any:
        """The answer with the file in it, behind redirects and confirmation pages."""
        address = self.url
        for _ in range(_MAX_PAGES):
            response = self._get(address)
            if not _is_page(response):
                coding = response.headers.get("Content-Encoding", "identity")
                if response.status != http.HTTPStatus.OK or coding != "identity":
                    response.close()
                    raise DownloadFailed(f"{address}: the server answers {response.status} without the plain file")
                return response
            with closing(response), network_faults(address):
                html = response.read(_MAX_PAGE_BYTES).decode("utf-8", "replace")
            address = next_address(html, response.geturl(), {c.name: c.value or "" for c in self._jar})
        raise DownloadFailed(f"{self.url}: the server asks for one confirmation after another; {BY_HAND}")

    def rest(self, address: str, facts: Facts, n_done: int) -> Any | None:
        """An answer of status 206 with what is missing, or of 200 with the whole file again, or None."""
        headers = {"Range": f"bytes={n_done}-"}
        if facts.validator:
            headers["If-Range"] = facts.validator
        try:
            response = self._get(address, headers)
        except DownloadFailed:
            return None
        if response.status == http.HTTPStatus.OK and not _is_page(response):
            return response
        span = _SPAN.fullmatch(response.headers.get("Content-Range", ""))
        begin, total = (int(span[1]), int(span[3])) if span else (None, None)
        # A server that was told the validator need not repeat the others (RFC 9110, 15.3.7); what it says must agree.
        said = response.headers
        agrees = said.get("ETag") in (None, facts.etag) and said.get("Last-Modified") in (None, facts.last_modified)
        is_rest = begin == n_done and total is not None and total == facts.total and agrees
        if response.status == http.HTTPStatus.PARTIAL_CONTENT and is_rest:
            return response
        response.close()
        return None

    def _get(self, address: str, headers: dict[str, str] | None = None) -> Any:
        """The server's answer to one request."""
        self._check_cancel()
        with network_faults(address):
            try:
                request = urllib.request.Request(address, headers={"User-Agent": "danna-sep", **(headers or {})})
                return self._opener.open(request, timeout=self._timeout_s)
            except urllib.error.HTTPError as error:
                with error:
                    if _is_page(error):  # its words may say more than the status does
                        refuse_quota(error.read(_MAX_PAGE_BYTES).decode("utf-8", "replace"), address)
                    said = " ".join(f"the server answers {error.code} {error.reason}".split())
                    if error.code in _WORTH_RETRYING:
                        raise Dropped(said) from error
                    raise DownloadFailed(f"{address}: {said}") from error


@contextmanager
def network_faults(address: str) -> Iterator[None]:
    """Tells faults that may pass from those that will not."""
    try:
        yield
    except http.client.InvalidURL as error:
        raise DownloadFailed(f"{address}: not a valid address") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            reason = error.reason.verify_message
            raise DownloadFailed(f"{address}: the server's certificate is not trusted ({reason})") from error
        raise Dropped(f"no connection ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise Dropped(f"the connection broke ({str(error) or type(error).__name__})") from error


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects within the web, and never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """The request to make next, by the rules of urllib's own handler."""
        if not is_web(newurl) or is_downgrade(req.full_url, newurl):
            fp.close()
            raise DownloadFailed(f"{req.full_url}: the server redirects to an unsafe address ({newurl[:100]})")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_page(response: Any) -> bool:
    return response.headers.get_content_type() in ("text/html", "application/xhtml+xml")
