"""Where a server listens, under which names and with which certificate: what can be wrong before a model is loaded.

Knows no request.
"""

import re
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from core.errors import AddressError, UsageError

SEND_BUFFER_BYTES = 1 << 16
"""Of a connection, in the system. Linux would let it grow to 4 MB: as many answers as a client would have to leave
unread before it is noticed."""


def listen(host: str, port: int) -> socket.socket:
    """A socket at the address; connections wait in it until `serve` answers them.

    Args:
        port: 0 = any that is free.

    Raises:
        AddressError: the address is in use, not this machine's, or not allowed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressError(
            f"--host {host or repr(host)}: no such address ({error}); name one of this machine's"
        ) from None
    try:
        # A port that the last process left a minute ago is free.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise AddressError(
            f"{host} port {port}: cannot be listened on ({error.strerror}); choose another with --host or --port"
        ) from None
    return listening


def check_certificate(certificate: Path, key: Path) -> None:
    """Nothing, when they can be served with.

    Raises:
        AddressError: one cannot be read, or they do not belong together.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror or error
        raise AddressError(
            f"--cert {certificate} --key {key}: no certificate with its key ({reason}); expected two PEM files, the "
            "key without a password"
        ) from None


def host_name(text: str) -> str:
    """The name of a machine as browsers send it: in small letters, without the dot of the root.

    Raises:
        UsageError: it is something else, such as a name with a port, or an address.

    >>> host_name("Chat.Example.org.")
    'chat.example.org'
    """
    try:
        name = text.lower().removesuffix(".").encode("idna").decode("ascii")
    except UnicodeError:  # a label that is empty or too long
        name = ""
    if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name):
        raise UsageError(
            f"--allow-host {text or repr(text)}: expected a name alone, such as chat.example.org, without a scheme, a "
            "port or a path; it is then allowed with any port"
        )
    return name


def web_origin(text: str) -> str:
    """A site as browsers name it in "Origin": in small letters, without the port that its scheme has anyway.

    Raises:
        UsageError: it is no site.

    >>> web_origin("https://Example.org:443")
    'https://example.org'
    """
    mistake = UsageError(
        f"--cors {text or repr(text)}: expected an origin such as https://example.org, without a path"
    )
    try:
        parts = urlsplit(text)
        name, port = parts.hostname or "", parts.port
        shown = f"[{name}]" if ":" in name else host_name(name)
    except ValueError:  # a port that is no number, half a bracket, no name
        raise mistake from None
    default = {"http": 80, "https": 443}.get(parts.scheme)
    if (
        default is None
        or parts.username is not None
        or text.lower() != f"{parts.scheme}://{parts.netloc}".lower()
    ):
        raise mistake
    return f"{parts.scheme}://{shown}" + (f":{port}" if port not in (None, default) else "")
