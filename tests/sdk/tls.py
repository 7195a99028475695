"""A TLS terminator before a plain server, for clients that connect in no other way."""

import asyncio
import concurrent.futures
import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar import DEADLINE


class Terminator:
    """Takes TLS off what comes and passes it to `url`, until the `with` block ends.

    Its certificate, for loopback and `names`, is made on the spot; clients that trust the file
    `authority` trust it. `listener`: a socket to accept on, else one on loopback.

    All of it is done in one thread: OpenSSL forbids to read a connection in one and to write it in
    another."""

    def __init__(self, directory, url, names=(), listener=None):
        self.authority = directory / "authority.pem"
        chain, key = directory / "certificate.pem", directory / "key.pem"
        _make(self.authority, chain, key, names)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(chain, key)
        self._context.set_alpn_protocols(["http/1.1"])
        self._behind = url.removeprefix("http://").split(":")
        begun = concurrent.futures.Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(_until_ended(begun)), daemon=True)
        self._thread.start()
        self._loop, self._ended = begun.result(DEADLINE)
        self._listeners, self._under_way = [], set()
        listener = listener or socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        self.accept(listener)

    def accept(self, listener):
        """Accepts on a further socket, too."""
        self._listeners.append(listener)
        begins = asyncio.start_server(self._serve, sock=listener, ssl=self._context)
        asyncio.run_coroutine_threadsafe(begins, self._loop).result(DEADLINE)

    async def _serve(self, client, to_client):
        # Nobody else holds it once the client is gone.
        self._under_way.add(asyncio.current_task())
        with contextlib.suppress(OSError), contextlib.closing(to_client):
            server, to_server = await asyncio.open_connection(*self._behind)
            with contextlib.closing(to_server):
                await asyncio.gather(_pass(client, to_server), _pass(server, to_client))
        self._under_way.discard(asyncio.current_task())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(DEADLINE)
        for listener in self._listeners:
            listener.close()


async def _until_ended(begun):
    """Hands over the loop that it runs in, and what ends it and all that goes on in it."""
    ended = asyncio.Event()
    begun.set_result((asyncio.get_running_loop(), ended))
    await ended.wait()


async def _pass(source, target):
    """Passes bytes on to their end, and then the end."""
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    # TLS has no end of one direction alone.
    target.write_eof() if target.can_write_eof() else target.close()


def join(client, server):
    """Passes bytes both ways until both sides have ended, which are plain sockets."""
    with client, server:
        back = threading.Thread(target=_pump, args=(server, client), daemon=True)
        back.start()
        _pump(client, server)
        back.join()


def _pump(source, target):
    """Passes bytes on to their end, and then the end."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _make(authority, certificate, key, names):
    """Writes an authority, a certificate that it vouches for, and its key."""
    over, under = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate("Test authority", "Test authority", over.public_key())
    root = root.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    name = x509.SubjectKeyIdentifier.from_public_key(over.public_key())
    root = root.add_extension(name, critical=False)
    alternatives = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    leaf = _certificate("Test server", "Test authority", under.public_key())
    leaf = leaf.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    over_it = x509.AuthorityKeyIdentifier.from_issuer_public_key(over.public_key())
    leaf = leaf.add_extension(over_it, critical=False)
    pem = serialization.Encoding.PEM
    signed = [made.sign(over, hashes.SHA256()).public_bytes(pem) for made in (root, leaf)]
    authority.write_bytes(signed[0])
    certificate.write_bytes(signed[1])
    plain = serialization.NoEncryption()
    key.write_bytes(under.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))


def _certificate(subject, issuer, public):
    """The beginning of a certificate that is valid for a day."""
    subject, issuer = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in (subject, issuer)
    )
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
