"""What a simulated device is told before it starts, and what it reports in the end."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cryptography import x509

from simulators import formats
from simulators.association import CoapParameters
from simulators.site import MAX_PAYLOAD
from simulators.tree import PemAnswer, Version

# How real clients come back after a failure: the first time after this, in seconds.
FIRST_BACK_OFF = 1.0
# RFC 7252 4.8.2, LwM2M Core 1.2 6.1.7.7: EXCHANGE_LIFETIME, after which a bootstrap without Finish has failed.
EXCHANGE_LIFETIME = 247.0

# Security mode 4: enrol after the Finish; fail without such an account; take it and enrol some other time; refuse it.
Est = Literal["enrols", "expects", "later", "refuses"]


@dataclass(frozen=True, slots=True)
class Server:
    """Where a device bootstraps: `host` is the name it verifies, `address` where its datagrams go.

    They differ when a proxy stands between. `anchors` judge the server's certificate.
    """

    host: str
    port: int
    address: tuple[str, int]
    anchors: tuple[x509.Certificate, ...] = ()

    @property
    def uri(self) -> str:
        """The Server URI of the bootstrap account."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"coaps://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What kind of client a device is; the defaults are a well-behaved LwM2M 1.2 client.

    `account` is the instance of the bootstrap account in /0. `query` are further parameters of the
    Bootstrap-Request, `pct` goes with it (None = a 1.0 client). `content_formats` are numbers that it takes. `pem` is
    what a certificate in PEM is answered (taken, refused at its write, or found unusable at the Finish), `est` what it
    does with security mode 4, `refuses` names operations ("DELETE /0") and the code they are answered whatever they
    hold. `discover` False is a client that says nothing at all to Discover. `finish_delay` above `empty_ack_after`
    makes the answer to Finish a separate response.
    """

    version: Version = "1.2"
    account: int = 0
    send_endpoint: bool = True
    query: tuple[str, ...] = ()
    pct: int | None = formats.SENML_CBOR
    content_formats: frozenset[int] = frozenset((*formats.FORMATS.values(), formats.TLV_OLD))
    pem: PemAnswer = "2.04"
    est: Est = "enrols"
    refuses: Mapping[str, str] = field(default_factory=dict)
    discover: bool = True
    one_token: bool = True
    finish_delay: float = 0.0
    max_payload: int = MAX_PAYLOAD
    mtu: int = 1200
    coap: CoapParameters = field(default_factory=CoapParameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds a device gives: `handshake` the DTLS handshake, `server` the next word of the server."""

    handshake: float = 60.0
    server: float = EXCHANGE_LIFETIME
    first_back_off: float = FIRST_BACK_OFF
    attempts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How it went; `serial` in lower-case hexadecimal, `issuer` as RFC 4514 has it, `ms` over all attempts."""

    endpoint: str
    credential: str
    ok: bool
    reason: str | None
    issuer: str | None
    serial: str | None
    ms: int
    attempts: int

    def as_json(self) -> str:
        """One line; the names are an interface."""
        names = ("endpoint", "credential", "ok", "reason", "issuer", "serial", "ms", "attempts")
        return json.dumps({name: getattr(self, name) for name in names})
