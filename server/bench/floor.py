"""The floor: what a bootstrap costs at the very least on this machine, whatever program serves it (design 9).

Its public-key operations at the speed of the OpenSSL that the server uses, and its datagrams at the system time of a
bare echo. Hashes, record protection, CoAP, the record and Python are above the floor.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from server.bench import echo
from server.bench.figures import Mode

# Seconds that each operation is repeated for.
EACH = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one bootstrap cannot do without: operations on P-256 and datagrams, both ways."""

    generate: int
    exchange: int
    sign: int
    verify: int
    received: int
    sent: int

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in asdict(self).items())


# The server's part of the handshake (ECDHE_ECDSA, both sides by certificate): a key, an exchange, a signature, and two
# verifications: the device's certificate by its factory's key, the device's proof by its own. The issuance: a key, the
# CSR and the certificate signed, and what the CA gave verified. PSK: the issuance alone.
X509 = Counts(generate=2, exchange=1, sign=3, verify=3, received=11, sent=11)
PSK = Counts(generate=1, exchange=0, sign=2, verify=1, received=10, sent=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """Seconds for one of each; `echo` is the system time of one datagram received and one sent."""

    generate: float
    exchange: float
    sign: float
    verify: float
    echo: float

    def milliseconds(self, counts: Counts) -> float:
        """The floor of one bootstrap."""
        crypto: float = sum(
            getattr(self, name) * getattr(counts, name) for name in ("generate", "exchange", "sign", "verify")
        )
        return 1000 * (crypto + self.echo * (counts.received + counts.sent) / 2)

    def as_json(self) -> dict[str, float]:
        """In microseconds, by name."""
        return {f"{name}_us": round(1e6 * seconds, 2) for name, seconds in asdict(self).items()}

    def between(self, other: "Speeds") -> "Speeds":
        """The mean of two measurements of each: of what lies between them."""
        mine, others = asdict(self), asdict(other)
        return Speeds(**{name: (seconds + others[name]) / 2 for name, seconds in mine.items()})


def measure() -> Speeds:
    """Measure all of them now; a second or two. Raises RigFailed."""
    mine, peers = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    public, algorithm, text = peers.public_key(), ec.ECDSA(hashes.SHA256()), bytes(echo.SIZE)
    signature = peers.sign(text, algorithm)
    return Speeds(
        generate=_seconds(lambda: ec.generate_private_key(ec.SECP256R1())),
        exchange=_seconds(lambda: mine.exchange(ec.ECDH(), public)),
        sign=_seconds(lambda: mine.sign(text, algorithm)),
        verify=_seconds(lambda: public.verify(signature, text, algorithm)),
        echo=echo.seconds(),
    )


def _seconds(operation: Callable[[], object]) -> float:
    """CPU seconds of one `operation`: the mean, as the CPU time of a round is; its neighbours slow down both alike."""
    done, began = 0, time.thread_time()
    while (spent := time.thread_time() - began) < EACH:
        for _ in range(10):
            operation()
        done += 10
    return spent / done


def counts_of(mode: Mode) -> Counts:
    """Of a bootstrap with this kind of credential."""
    return X509 if mode == "x509" else PSK
