"""Where a server listens, and with which certificate: what can be wrong before a model is loaded. Knows no HTTP."""

import socket
import ssl
from pathlib import Path

from core.errors import AddressError

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
        raise AddressError(f"--host {host}: no such address ({error}); name one of this machine's") from None
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
