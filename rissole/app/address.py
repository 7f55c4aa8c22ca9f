"""Where the server listens, what names it answers to, and how it reaches itself."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from rissole.app.assets import texts
from rissole.config import RissoleError, quoted

LOOPBACK = "127.0.0.1"
ANY = "*"
TRUSTED = "FORWARDED_ALLOW_IPS"  # where the web server looks for proxies whose word it takes
# networks that nobody visits from; the proxies of a Space are in one of them
PRIVATE = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,127.0.0.0/8"


def listening(host: str | None, port: int | None) -> tuple[str, int | None]:
    """Host and port to listen on, what is left out from the environment, as Spaces have it.

    Raises:
        RissoleError: when they cannot be listened on; one line that names them.
    """
    named, numbered = os.environ.get("GRADIO_SERVER_NAME"), os.environ.get("GRADIO_SERVER_PORT")
    if numbered is not None and not (numbered.strip().isdecimal() and int(numbered) <= 65535):
        value = quoted(numbered)
        raise RissoleError(f"GRADIO_SERVER_PORT must be a number from 0 to 65535, not {value}")
    host = (host or named or LOOPBACK).strip("[]")
    _check(host, port or 0)
    if named:  # the library tries its ports there, whatever it was told
        _check(named.strip("[]"), 0)
    return host, port or None  # None lets the library look for a free one


def _check(host: str, port: int) -> None:
    # the server itself would try a hundred ports before it gave up on a host that is not ours
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "a port is from 0 to 65535"
        line = texts()["errors"]["address"].format(host=host, port=port, reason=reason)
        raise RissoleError(line) from None


class Names:
    """The names by which visitors may call the server.

    A page from elsewhere can point a name of its own at this computer ("DNS rebinding"), and would
    then be let in like our own page. So a server answers to names that nobody else can own: of
    this computer, of the Space, and those that whoever runs it gave.

    Args:
        host: what it listens on.
        more: further names, as a proxy before it has them; "*" for any.
    """

    def __init__(self, host: str, more: Iterable[str] = ()):
        self.open_to_others = not _loopback(host)
        own = {socket.gethostname(), f"{socket.gethostname()}.local"} if self.open_to_others else ()
        space = os.environ.get("SPACE_HOST", "").split(",")
        self.names = {name.strip().lower() for name in (host, *own, *space, *more)} - {""}

    def __contains__(self, header: str) -> bool:
        """Whether the value of a Host header is one of them."""
        name = hostname(header)
        if _loopback(name) or name in self.names or ANY in self.names:
            return True
        return self.open_to_others and _is_address(name)  # no name, so nobody can point it here


def hostname(header: str) -> str:
    """The name in a Host or Origin header, without the port; empty where there is none."""
    try:
        parts = urlsplit(header if "://" in header else f"//{header}")
        return (parts.hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


def neighborhood(host: str) -> str:
    """Whose address it is: of IPv6, where everybody has many, the half that names the network."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


def caller(connection: Mapping[str, Any]) -> str:
    """The `neighborhood` that a request, or what a server knows of it (ASGI), comes from."""
    return neighborhood((connection.get("client") or ("",))[0])


@contextlib.contextmanager
def believing(proxies: str | None = None) -> Iterator[None]:
    """Lets the web server that is started meanwhile believe whom proxies say that they speak for.

    Anybody can send the header in which they do, so nobody else's is believed; the library's own
    way is to believe every program on this computer, also a proxy that passes the header on as
    visitors wrote it.

    Args:
        proxies: their addresses or networks, separated by commas; None for what the environment
            says, else those of a Space on a Space, else nobody's.
    """
    before = os.environ.get(TRUSTED)
    usual = PRIVATE if os.environ.get("SPACE_ID") else ""
    told = usual if before is None else before
    os.environ[TRUSTED] = told if proxies is None else proxies
    try:
        yield
    finally:
        del os.environ[TRUSTED]
        if before is not None:
            os.environ[TRUSTED] = before


@contextlib.contextmanager
def no_proxies() -> Iterator[None]:
    """Lets this process reach itself, whatever proxies its environment names for the world."""
    named = {name: os.environ[name] for name in os.environ if name.lower().endswith("_proxy")}
    for name in named:
        del os.environ[name]
    os.environ["no_proxy"] = ANY  # some systems keep proxies elsewhere, too
    try:
        yield
    finally:
        del os.environ["no_proxy"]
        os.environ.update(named)
