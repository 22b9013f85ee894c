"""The OpenSSL engine and a client of it, without a socket."""

from typing import Any

from server.transport import records
from server.transport.engine import PreSharedKey, SessionState
from server.transport.openssl import OpenSslEngine
from server.transport.openssl_session import OpenSslSession
from server.trust import TrustIndex
from tests.unit.transport.certificates import NOW, Pki
from tests.unit.transport.client import Client

COOKIE = b"c" * 32


def engine(pki: Pki, index: TrustIndex | None = None, **options: Any) -> OpenSslEngine:
    chosen = index or pki.index
    return OpenSslEngine(
        certificate_chain_pem=options.pop("pem", pki.server.pem),
        private_key=options.pop("key", pki.server.key),
        trust=options.pop("trust", lambda: chosen),
        now=lambda: NOW,
        **options,
    )


def accept(made: OpenSslEngine, client: Client, *, keys_first: bool = False) -> OpenSslSession:
    (hello,) = client.start()
    (hello,) = client.receive(records.hello_verify_request(hello, COOKIE))
    return made.accept(hello, keys_first=keys_first)


def finish(session: OpenSslSession, client: Client) -> None:
    """Carry datagrams to and fro until both have nothing to say."""
    while waiting := session.datagrams_to_send():
        answers = [answer for datagram in waiting for answer in client.receive(datagram)]
        for answer in answers:
            if session.state is not SessionState.CLOSED:
                session.receive(answer)


def connect(
    made: OpenSslEngine, client: Client, key: PreSharedKey | None = None, *, keys_first: bool = False
) -> OpenSslSession:
    session = accept(made, client, keys_first=keys_first)
    if key is not None:
        session.offer_psk(key.identity, key)
    finish(session, client)
    return session
