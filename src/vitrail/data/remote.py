"""One picture from an address that somebody typed: small, quick, and from the public network.

Whoever names an address makes this machine ask it, and this machine may stand inside a hospital.
So a name is looked up once, every address behind it must be public, and the connection goes to the
address that was judged: a name that answers differently the second time (DNS rebinding) gains
nothing. A redirect is judged anew. Proxies of the environment are not asked, for they would look
the name up themselves. The content must begin as a picture does; it is not decoded here.
"""

import http.client
import ipaddress
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from threading import Timer
from typing import Any
from urllib.parse import urljoin

from vitrail.data.extras import load
from vitrail.errors import DataError, InputError, UnreadableFileError

MAX_BYTES = 32 << 20
TIMEOUT_S = 20.0
_REDIRECTS = 3
_MOVED = frozenset({301, 302, 303, 307, 308})
_OK = 200
_CHUNK = 1 << 16
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_BEGINNINGS = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",  # JPEG
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # TIFF and BigTIFF
    b"BM",
)


def fetch_picture(
    url: str,
    *,
    allow_private: bool = False,
    max_bytes: int = MAX_BYTES,
    timeout_s: float = TIMEOUT_S,
) -> bytes:
    """Fetch one picture by http or https.

    Args:
        url: Its address.
        allow_private: Whether this machine and its own network may be asked, too.
        max_bytes: The largest file that is taken.
        timeout_s: For the whole, redirects included; looking up a name takes what the system's
            resolver takes.

    Returns:
        The file; it begins as PNG, JPEG, TIFF, BMP or DICOM does.

    Raises:
        InputError: If the address cannot be asked: neither http nor https, a password in it, no
            such name, a private one.
        DataError: If it is out of reach, answers with an error, is too large or too slow.
        UnreadableFileError: If what came is not a picture.
        MissingExtraError: If urllib3 is not installed.
    """
    deadline = time.monotonic() + timeout_s
    asked = url
    for _ in range(_REDIRECTS + 1):
        answer = _ask(_judged(asked, allow_private=allow_private), max_bytes, deadline=deadline)
        if isinstance(answer, bytes):
            if not _is_picture(answer):
                rule = "it begins as no PNG, JPEG, TIFF, BMP or DICOM does"
                raise UnreadableFileError(asked, "it is not a picture", rule, "pass another URL")
            return answer
        asked = urljoin(asked, answer.location)
    came, rule = f"more than {_REDIRECTS} redirects", "an address leads to its file"
    raise DataError(url, came, rule, "pass the address of the file itself")


def _is_picture(content: bytes) -> bool:
    """Tell a picture by its first bytes."""
    return content.startswith(_BEGINNINGS) or content[128:132] == b"DICM"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """An address that may be asked, its name looked up."""

    url: str
    scheme: str
    host: str
    netloc: str
    numeric: str
    port: int
    path: str


@dataclass(frozen=True, slots=True)
class _Moved:
    """An answer that names another address."""

    location: str


def _judged(url: str, *, allow_private: bool) -> _Place:
    """Read an address, look its name up, and refuse what must not be asked."""
    urllib3 = load("urllib3", extra="fetch", wanted_for="a picture from a URL")
    try:
        parts = urllib3.util.parse_url(url)
    except urllib3.exceptions.LocationParseError as error:
        raise InputError("URL", repr(url), "it cannot be read", "pass https://…") from error
    if parts.scheme not in _PORTS or not parts.host:
        raise InputError("URL", repr(url), "only http and https are asked", "pass https://…")
    if parts.auth is not None:
        # The address itself is not repeated: it holds a password.
        raise InputError("URL", f"a password for {parts.host}", "none is sent", "leave it out")
    host, port = parts.host.strip("[]"), parts.port or _PORTS[parts.scheme]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        rule = "no address is known of that name"
        raise InputError("URL", repr(url), rule, "check it, and the network") from error
    numeric = [str(one[4][0]) for one in found]
    if not allow_private and not all(is_public(one) for one in numeric):
        raise InputError(
            "URL",
            repr(url),
            "it points into a private network, or to this machine",
            "save the picture and pass the file, or allow private addresses",
        )
    return _Place(
        url=url,
        scheme=parts.scheme,
        host=host,
        netloc=parts.netloc,
        numeric=numeric[0],
        port=port,
        path=parts.request_uri,
    )


def is_public(numeric: str) -> bool:
    """Tell whether an address belongs to the public network, also one wrapped into IPv6.

    Args:
        numeric: An IPv4 or IPv6 address.

    Example:
        >>> is_public("93.184.216.34"), is_public("10.0.0.1"), is_public("::ffff:127.0.0.1")
        (True, False, False)
    """
    address = ipaddress.ip_address(numeric.partition("%")[0])
    inner: ipaddress.IPv4Address | None = None
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if address.teredo is not None or address.is_site_local:
            return False
    judged = [address] if inner is None else [inner]
    return all(one.is_global and not one.is_multicast and not one.is_reserved for one in judged)


def _ask(place: _Place, max_bytes: int, *, deadline: float) -> bytes | _Moved:
    """Ask the address that was judged, for as long as there is time."""
    urllib3 = load("urllib3", extra="fetch", wanted_for="a picture from a URL")
    left = deadline - time.monotonic()
    if left <= 0:
        raise _late(place)
    options: dict[str, Any] = {"port": place.port, "timeout": left}
    if place.scheme == "https":
        options["server_hostname"] = place.host
    kind = {"http": "HTTPConnection", "https": "HTTPSConnection"}[place.scheme]
    connection = getattr(urllib3.connection, kind)(place.numeric, **options)
    try:
        connection.connect()
        with _until(deadline, connection.sock):
            answer = _answer(connection, place, max_bytes=max_bytes)
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        if time.monotonic() >= deadline:
            raise _late(place) from error
        came = f"the connection failed ({type(error).__name__})"
        raise DataError(place.url, came, "the whole file comes", "check it") from error
    finally:
        connection.close()
    if time.monotonic() >= deadline:  # what came may be cut
        raise _late(place)
    return answer


@contextmanager
def _until(deadline: float, sock: socket.socket) -> Iterator[None]:
    """End a conversation at its deadline, also with a server that sends a byte a second."""

    def hang_up() -> None:
        with suppress(OSError):  # it was closed meanwhile
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = Timer(max(0.0, deadline - time.monotonic()), hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _answer(connection: Any, place: _Place, *, max_bytes: int) -> bytes | _Moved:
    """Send the request, and take what comes while it is small enough."""
    headers = {"Host": place.netloc, "Accept": "image/*", "Accept-Encoding": "identity"}
    connection.request("GET", place.path, headers=headers, preload_content=False)
    with closing(connection.getresponse()) as answer:
        if answer.status in _MOVED and answer.headers.get("Location"):
            return _Moved(answer.headers["Location"])
        if answer.status != _OK:
            came = f"the server answered {answer.status}"
            raise DataError(place.url, came, "it sends the picture", "check the address")
        content = bytearray()
        while chunk := answer.read1(_CHUNK, decode_content=False):
            content += chunk
            if len(content) > max_bytes:
                rule = f"at most {max_bytes} bytes are taken"
                raise DataError(place.url, "it is too large", rule, "save it and pass the file")
    return bytes(content)


def _late(place: _Place) -> DataError:
    """Say that the time is over."""
    rule = "it comes within the time that is given to it"
    return DataError(place.url, "it is too slow", rule, "save it and pass the file")
