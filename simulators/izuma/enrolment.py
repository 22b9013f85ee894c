"""EST as the client does it: a key of its own, a CSR, `POST /est/sen`, and the chain it gets back.

None of the standard's paths, formats and options: Content-Format 0, no Accept, and the next block of an answer is asked
for by POST with the same token.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiocoap import Message
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from simulators.checks import Chain
from simulators.izuma import chain as chains

# The certificate for the LwM2M server goes by this name and has no name in its path.
LWM2M = "LWM2M"
# The codes of success; anything else fails the enrolment.
GOOD = (codes.CREATED, codes.DELETED, codes.VALID, codes.CHANGED, codes.CONTENT)
# A chain of five of the largest certificates there may be, in either format.
LONGEST_ANSWER = chains.MOST_CERTIFICATES * (chains.LARGEST_COMPLIANT + 64)

# ecdsa-with-SHA256 as the client's Mbed TLS 2.28 writes it: with a NULL that does not belong there (RFC 5758 3.2).
ALGORITHM = bytes.fromhex("300c06082a8648ce3d0403020500")

Ask = Callable[[Message], Awaitable[Message]]


@dataclass(frozen=True, slots=True)
class Build:
    """How a build of the client does it: blocks of 2^(n+4) bytes, and how it reads the answer."""

    block_exponent: int
    read: Callable[[bytes], Chain]
    needs_device_id: bool


DEFAULT = Build(5, chains.read_chain, needs_device_id=True)
# LWM2M_COMPLIANT, for standard LwM2M.
COMPLIANT = Build(6, chains.read_pkcs7, needs_device_id=False)


class EnrolmentFailed(Exception):
    """No usable certificate came of it; the text says why."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A key the device made and the certificate it got for it."""

    chain: Chain
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def leaf(self) -> x509.Certificate:
        """The device's own certificate."""
        return self.chain[0]


def subject(*, device_id: str, account_id: str, endpoint: str) -> x509.Name:
    """`L=<device id>,OU=<account id>,CN=<endpoint>`, in this order; what is not known stays empty."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.LOCALITY_NAME, device_id),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, account_id),
            x509.NameAttribute(NameOID.COMMON_NAME, endpoint),
        ]
    )


def first_request(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A CSR with this subject and nothing else."""
    return _signed(x509.CertificateSigningRequestBuilder().subject_name(name), key)


def renewal_request(present: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A CSR with the subject and all extensions of the `present` certificate but the two key identifiers."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(present.subject)
    for extension in present.extensions:
        if not isinstance(extension.value, x509.SubjectKeyIdentifier | x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    return _signed(builder, key)


def _signed(builder: x509.CertificateSigningRequestBuilder, key: ec.EllipticCurvePrivateKey) -> bytes:
    csr = builder.sign(key, hashes.SHA256())
    signature = csr.signature
    content = csr.tbs_certrequest_bytes + ALGORITHM + bytes((3, len(signature) + 1, 0)) + signature
    size = len(content)
    return b"\x30" + (bytes((0x81, size)) if size < 0x100 else b"\x82" + size.to_bytes(2, "big")) + content


async def enrol(
    ask: Ask,
    token: bytes,
    *,
    certificate: str,
    csr: bytes,
    key: ec.EllipticCurvePrivateKey,
    build: Build = DEFAULT,
) -> chains.Named:
    """Have `csr` signed for the certificate of this name, with one token for all. Raises EnrolmentFailed."""
    path = ("est", "sen") if certificate == LWM2M else ("est", certificate, "sen")
    answer = await _posted(ask, path, token, csr, build.block_exponent)
    body = bytearray(answer.payload)
    while (block := answer.opt.block2) is not None and block.more:
        answer = await ask(_message(path, token, block2=(block.block_number + 1, False, block.size_exponent)))
        follows = answer.opt.block2
        if (
            answer.code not in GOOD
            or follows is None
            or follows.block_number << (follows.size_exponent + 4) != len(body)
        ):
            raise EnrolmentFailed(f"block {block.block_number + 1} of the answer did not come: {answer.code.dotted}")
        body += answer.payload
        if len(body) > LONGEST_ANSWER:
            raise EnrolmentFailed(f"the answer has more than {LONGEST_ANSWER} bytes")
    try:
        return chains.named(build.read(bytes(body)), key, needs_device_id=build.needs_device_id)
    except chains.UnusableChain as unusable:
        raise EnrolmentFailed(str(unusable)) from unusable


async def _posted(ask: Ask, path: tuple[str, ...], token: bytes, csr: bytes, exponent: int) -> Message:
    """Send the CSR, in blocks where it is longer than one; the first answer that is not 2.31."""
    size = 16 << exponent
    if len(csr) <= size:
        answer = await ask(_message(path, token, csr, block2=(0, False, exponent)))
    else:
        at = 0
        while True:
            last = at + size >= len(csr)
            answer = await ask(
                _message(
                    path,
                    token,
                    csr[at : at + size],
                    block1=(at // size, not last, exponent),
                    block2=(0, False, exponent),
                )
            )
            if last or answer.code != codes.CONTINUE:
                break
            at += size
            taken = answer.opt.block1
            if taken is not None and taken.size_exponent < exponent:
                # The server wants smaller ones (RFC 7959 2.5); what it has taken is a multiple of them.
                exponent = taken.size_exponent
                size = 16 << exponent
    if answer.code not in GOOD:
        raise EnrolmentFailed(f"/{'/'.join(path)} answered {answer.code.dotted}")
    return answer


def _message(
    path: tuple[str, ...],
    token: bytes,
    payload: bytes = b"",
    *,
    block1: tuple[int, bool, int] | None = None,
    block2: tuple[int, bool, int],
) -> Message:
    message = Message(code=codes.POST, uri_path=path, payload=payload, _token=token)
    # As the client's builder writes them: both are empty options.
    message.opt.content_format = 0
    message.opt.max_age = 0
    if block1 is not None:
        message.opt.block1 = block1
    message.opt.block2 = block2
    return message
