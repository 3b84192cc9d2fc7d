"""What to do when a server answers with a web page instead of the file: confirm, or say why there is no file.

Google Drive does not scan large files for viruses and asks for a confirmation: today with a form of hidden fields,
formerly with a link that carries a token, or with the token in a cookie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from danna_sep.errors import DownloadFailed

_TRUSTED_DOMAINS = ("google.com", "googleusercontent.com")
_QUOTA = ("too many users have viewed or downloaded this file", "quota exceeded")
_COOKIE = "download_warning"
BY_HAND = "download it by hand from that address and run `danna-sep weights import FILE`"


@dataclass
class _Form:
    id: str
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class _Page(HTMLParser):
    """Collects the forms, links and words of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[_Form] = []
        self.links: list[str] = []
        self.text = ""
        self.title = ""
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            method = values.get("method", "get").lower()
            self.forms.append(_Form(values.get("id", ""), values.get("action", ""), method))
        elif tag == "input" and self.forms and values.get("name"):
            self.forms[-1].fields[values["name"]] = values.get("value", "")
        elif tag == "a" and "href" in values:
            self.links.append(values["href"])
        self._in_title = tag == "title"

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_title:
            self.title += data


def looks_like_page(head: bytes) -> bool:
    """Whether the first bytes of an answer are a web page's, whatever the server calls it."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith((b"<!doctype html", b"<html"))


def next_address(html: str, address: str, cookies: Mapping[str, str]) -> str:
    """The address that the confirmation page `html`, found at `address`, leads to.

    Raises:
        DownloadFailed: the page says that the quota is used up, is no confirmation page, or leads to a stranger.
    """
    page = _read(html)
    _refuse_quota(page, address)
    target = _confirmed(page, address, cookies)
    if target is None:
        title = " ".join(page.title.split())[:80] or "no title"
        raise DownloadFailed(f"{address}: the server sent a web page ({title}) instead of the file; {BY_HAND}")
    if not may_follow(address, target):
        raise DownloadFailed(
            f"{address}: the page there leads to another server ({urlsplit(target).netloc}); {BY_HAND}"
        )
    return target


def refuse_quota(html: str, address: str) -> None:
    """Raises DownloadFailed if the page says that too many people have asked for the file."""
    _refuse_quota(_read(html), address)


def _refuse_quota(page: _Page, address: str) -> None:
    words = " ".join(page.text.lower().split())
    if any(phrase in words for phrase in _QUOTA):
        raise DownloadFailed(
            f"{address}: too many people downloaded this file lately; try again tomorrow, or {BY_HAND}"
        )


def _read(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    page.close()
    return page


def _confirmed(page: _Page, address: str, cookies: Mapping[str, str]) -> str | None:
    for form in page.forms:
        if form.method == "get" and (form.id == "download-form" or "confirm" in form.fields):
            return _with_query(urljoin(address, form.action), form.fields)
    for link in page.links:
        if "confirm" in dict(parse_qsl(urlsplit(link).query)):
            return urljoin(address, link)
    for name, value in cookies.items():
        if name.startswith(_COOKIE):
            return _with_query(address, {"confirm": value})
    return None


def _with_query(address: str, fields: Mapping[str, str]) -> str:
    parts = urlsplit(address)
    query = urlencode({**dict(parse_qsl(parts.query, keep_blank_values=True)), **fields})
    return urlunsplit(parts._replace(query=query))


def may_follow(address: str, target: str) -> bool:
    """Whether a page at `address` may send us to `target`: its own host, or one of Google's; never to plain HTTP."""
    here, there = urlsplit(address), urlsplit(target)
    host = there.hostname or ""
    if host == here.hostname:
        return is_web(target) and not is_downgrade(address, target)
    return there.scheme == "https" and any(f".{host}".endswith(f".{domain}") for domain in _TRUSTED_DOMAINS)


def is_web(address: str) -> bool:
    """Whether this is an address of the web at all, and not of a local file, say."""
    try:
        return urlsplit(address).scheme in ("http", "https")
    except ValueError:
        return False


def is_downgrade(address: str, target: str) -> bool:
    """Whether going from `address` to `target` would give up encryption."""
    return urlsplit(address).scheme == "https" and urlsplit(target).scheme != "https"
