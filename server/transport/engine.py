"""The contract between a socket and a DTLS or TLS library: datagrams in, datagrams and plaintexts out.

On a connection a "datagram" is whatever piece of the stream was read or is to be written; a plaintext is a record on
both. An engine (RFC 6347, RFC 5246) does no I/O and looks nothing up: its driver fetches a pre-shared key before it is
needed.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Literal, Protocol
from uuid import UUID

from server.store.errors import StoreUnavailable as StoreUnavailable
from server.trust import RefusalReason as TrustRefusalReason
from server.trust import Trusted, describe

# Longest printed identity: what an unauthenticated peer can make us keep or log has a fixed size.
LABEL_LENGTH = 200


class EngineUnfit(Exception):
    """The installed DTLS library does not do what this server stands on; the message says what failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreSharedKey:
    """A pre-shared key of the record and the endpoint that alone may use it; `key` is 1 to 512 bytes.

    `known_by` tells the anchors that were at work before it was looked up (`TrustIndex.mark`).
    """

    id: UUID
    account_id: UUID
    identity: bytes
    key: bytes = field(repr=False)
    endpoint: str
    known_by: object = field(default=None, repr=False, compare=False)


PskLookup = Callable[[bytes], Awaitable[PreSharedKey | None]]
"""The key of an identity or None; raises StoreUnavailable, which becomes silence (never alert 115)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerIdentity:
    """Who an established association proved to be; `chain` is what it showed, DER, its own first.

    `known_by` tells the anchors that it was judged by (`TrustIndex.mark`), or those before its key was looked up.
    """

    kind: Literal["x509", "psk"]
    psk_identity: bytes | None = None
    chain: tuple[bytes, ...] = ()
    trusted: Trusted | None = None
    psk: PreSharedKey | None = None
    known_by: object = field(default=None, repr=False, compare=False)

    @property
    def label(self) -> str:
        """The identity as one printable, bounded word for logs and lists."""
        if self.psk_identity is not None:
            return printable(self.psk_identity)
        return describe(self.chain[0])[:LABEL_LENGTH] if self.chain else ""


def printable(identity: bytes) -> str:
    """An identity as text of at most `LABEL_LENGTH` characters; bytes that are not plain text are escaped."""
    text = identity[: LABEL_LENGTH + 1].decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)[:LABEL_LENGTH]


class RefusalReason(Enum):
    """Why a peer with a proven address was not admitted; values are stored, counted and shown."""

    # The certificate path, one for one what `trust.py` says.
    UNKNOWN_CA = "unknown_ca"
    DENIED = "denied"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    BAD_SIGNATURE = "bad_signature"
    WEAK_KEY = "weak_key"
    WRONG_USAGE = "wrong_usage"
    NOT_A_CA = "not_a_ca"
    PATH_TOO_LONG = "path_too_long"
    MALFORMED = "malformed"
    # The handshake.
    NO_CERTIFICATE = "no_certificate"
    PROOF_FAILED = "proof_failed"
    UNKNOWN_IDENTITY = "unknown_identity"
    IDENTITY_MISMATCH = "identity_mismatch"
    WRONG_KEY = "wrong_key"
    STORE_UNAVAILABLE = "store_unavailable"
    NO_COMMON_SUITE = "no_common_suite"
    PROTOCOL_VERSION = "protocol_version"
    PEER_ALERT = "peer_alert"
    HANDSHAKE_FAILED = "handshake_failed"
    DEADLINE = "deadline"

    @classmethod
    def of(cls, reason: TrustRefusalReason) -> "RefusalReason":
        """The same reason as `trust.py` gave; both lists share their values (a test holds it)."""
        return cls(reason.value)


def ended_by_alert(number: int) -> str:
    """What an operator reads of a peer that ended its handshake (RFC 5246 7.2); 0 is close_notify."""
    return f"the device ended it with {f'alert {number}' if number else 'close_notify'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A peer whose address is proven and that was not admitted; all text is printable and bounded."""

    address: str
    reason: RefusalReason
    credential: Literal["x509", "psk", ""]
    identity: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportLimits:
    """What one socket may hold; seconds and bytes.

    `per_source` bounds the unfinished handshakes of one IPv4 address or IPv6 /64 only: fleets sit behind few NAT
    addresses, so it must not bound what is established. `mtu` is a DTLS datagram without UDP and IP headers, at least
    300.
    """

    max_handshakes: int = 2000
    max_associations: int = 20000
    per_source: int = 64
    handshake_deadline: float = 30.0
    idle_deadline: float = 300.0
    mtu: int = 1200
    # Datagrams kept in order behind a pre-shared key look-up; a client's flight has at most five.
    parked: int = 8


class SessionState(IntEnum):
    """Where a session stands; it only moves forward."""

    HANDSHAKING = 0
    ESTABLISHED = 1
    CLOSED = 2


class Session(Protocol):
    """One DTLS association inside an engine.

    After each of `receive`, `close` and `handle_timer` the caller must send `datagrams_to_send()` and look at
    `state`, after `send` at `state`; a CLOSED session, and one it gives up, it must `release()`. Nothing may be
    called after that.
    """

    state: SessionState
    peer: PeerIdentity | None
    """Set when ESTABLISHED."""
    refusal: RefusalReason | None
    """Set when CLOSED without ever having been ESTABLISHED."""
    detail: str
    """What an operator may read beside `refusal`, or why an ESTABLISHED session failed."""
    closed_by_peer: bool
    """CLOSED by the peer's close_notify."""
    credential: Literal["x509", "psk", ""]
    """What the peer has tried to prove so far, for lists of the refused."""

    @property
    def identity(self) -> str:
        """What it said it is, as printable text of at most `LABEL_LENGTH` characters."""

    def offer_psk(self, identity: bytes, key: PreSharedKey | None) -> None:
        """Give the key of the exact `identity` before the datagram that names it; None = no such key."""

    def receive(self, datagram: bytes) -> list[bytes]:
        """Take one datagram; returns the plaintexts it held (it may also complete or end the session)."""

    def receive_record(self, datagram: bytes) -> bytes | None:
        """`receive` for the usual datagram of an ESTABLISHED session, one record of application data: its plaintext.

        Then nothing is to be sent and `state` is as it was. Empty: the record was dropped or ended the session, go on
        as after `receive`. None: the datagram is of another kind and was not taken, `receive` it.
        """

    def send(self, plaintext: bytes) -> bytes:
        """Encrypt one record (ESTABLISHED only), which has to leave; never fragmented (docs/transport.md 16)."""

    def close(self) -> None:
        """Write close_notify; the session is CLOSED."""

    def datagrams_to_send(self) -> list[bytes]:
        """What has to leave now, in datagrams no larger than the MTU where the records allow."""

    def next_timer(self) -> float | None:
        """Seconds until `handle_timer` is due (0 = now); None = nothing to retransmit."""

    def handle_timer(self) -> None:
        """Retransmit what is due (RFC 6347 4.2.4)."""

    @property
    def cleartext_mtu(self) -> int:
        """Longest plaintext in bytes that fits one datagram."""

    def release(self) -> None:
        """Free what the library holds."""


class Engine(Protocol):
    """Makes sessions; replaced whole when the server's own certificate changes."""

    def accept(self, client_hello: bytes, *, keys_first: bool = False) -> Session:
        """A session for a whole ClientHello datagram whose cookie was checked; its answer is ready.

        On a connection nothing was read yet: `client_hello` is empty and `receive` gets it. `keys_first`: who offers
        both is asked for a pre-shared key and no certificate.
        """
