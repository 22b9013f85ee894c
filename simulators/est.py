"""A device's side of EST over CoAP: CA certificates, and a certificate for a key of its own (RFC 9148).

CoAP and its blocks are aiocoap's; certs-only PKCS#7 is read here and by nothing that the server uses.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiocoap import Message, error
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from simulators.checks import UNREADABLE, Chain

# RFC 9148 9.1.
MULTIPART, PKCS7, PKCS10, CERTIFICATE = 62, 281, 286, 287
ROOT = (".well-known", "est")
# RFC 7252 5.10.5: Max-Age of a response that carries none.
DEFAULT_MAX_AGE = 60
# id-signedData and id-data (RFC 5652 5.1, 4), as they stand in a message.
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_DATA = bytes.fromhex("06092a864886f70d010701")


class EnrolmentFailed(Exception):
    """There is no certificate; `code` is the server's answer ("4.00"), `retry_after` seconds if it named them."""

    def __init__(self, reason: str, code: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.retry_after = retry_after


@dataclass(slots=True)
class KeyPair:
    """A key that never leaves the device, with the one CSR it was put into: the same request, however often."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    csr: bytes

    @classmethod
    def make(cls, name: x509.Name, *extensions: x509.ExtensionType) -> "KeyPair":
        """A new key on P-256 and its CSR."""
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(key, sign_csr(key, name, *extensions))


def sign_csr(key: ec.EllipticCurvePrivateKey, name: x509.Name, *extensions: x509.ExtensionType) -> bytes:
    """A CSR in DER."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def common_name(endpoint: str) -> x509.Name:
    """The usual subject of a device: its endpoint name alone."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, endpoint)])


class EstClient:
    """EST on one association; `context` is aiocoap's, `patience` seconds are given to each answer, with its blocks."""

    def __init__(self, context: Any, remote: Any, tuning: Any, *, patience: float, note: Callable[[str], None]) -> None:
        self._context = context
        self._remote = remote
        self._tuning = tuning
        self._patience = patience
        self._note = note

    async def ca_certificates(self, *, label: str | None = None) -> Chain:
        """What the server's CA calls its own. Raises EnrolmentFailed."""
        answer = await self.ask(codes.GET, (*ROOT, *_label(label), "crts"), accept=PKCS7)
        return read_certificates(answer.payload)

    async def enroll(self, csr: bytes, *, label: str | None = None, function: str = "sen") -> Chain:
        """The chain for a CSR, in the order it came. Raises EnrolmentFailed."""
        path = (*ROOT, *_label(label), function)
        answer = await self.ask(codes.POST, path, payload=csr, content_format=PKCS10, accept=PKCS7)
        return read_certificates(answer.payload)

    async def ask(
        self,
        code: Any,
        path: tuple[str, ...],
        *,
        payload: bytes = b"",
        content_format: int | None = None,
        accept: int | None = None,
        query: tuple[str, ...] = (),
    ) -> Message:
        """One request; the whole successful answer. Raises EnrolmentFailed."""
        request = Message(code=code, uri_path=path, uri_query=query, payload=payload, transport_tuning=self._tuning)
        if content_format is not None:
            request.opt.content_format = content_format
        if accept is not None:
            request.opt.accept = accept
        exponent = self._remote.maximum_block_size_exp
        if exponent < 6:
            request.opt.block2 = (0, False, exponent)
        request.remote = self._remote
        shown = f"{codes.Code(code).name} /{'/'.join(path)}"
        self._note(f"-> {shown}, {len(payload)} bytes")
        try:
            async with asyncio.timeout(self._patience):
                answer = await self._context.request(request).response
        except TimeoutError as failure:
            raise EnrolmentFailed(f"no answer to {shown} within {self._patience:g} s") from failure
        except error.Error as failure:
            raise EnrolmentFailed(f"no answer to {shown}: {failure!r}") from failure
        dotted = answer.code.dotted
        self._note(f"<- {dotted} to {shown}, {len(answer.payload)} bytes")
        if answer.code.is_successful():
            return answer
        retry_after = None
        if answer.code == codes.SERVICE_UNAVAILABLE:
            retry_after = DEFAULT_MAX_AGE if answer.opt.max_age is None else answer.opt.max_age
        later = "" if retry_after is None else f", Max-Age {retry_after}"
        raise EnrolmentFailed(f"{shown} answered {dotted}{later}", dotted, retry_after)


def _label(label: str | None) -> tuple[str, ...]:
    return () if label is None else (label,)


# -- certs-only PKCS#7 (RFC 5652 5.1) ------------------------------------------------------------------------


def read_certificates(message: bytes) -> Chain:
    """The certificates of a certs-only message, in the order they stand in it. Raises EnrolmentFailed."""
    try:
        (content_info,) = _values(message)
        kind, wrapped = _values(content_info[1])
        (signed_data,) = _values(wrapped[1])
        version, digests, data, *rest = _values(signed_data[1])
        if kind[2] != _SIGNED_DATA or wrapped[0] != 0xA0 or (version[1], digests[1], data[1]) != (b"\1", b"", _DATA):
            raise EnrolmentFailed("the answer is no certs-only PKCS#7")
        certificates = next((content for tag, content, _ in rest if tag == 0xA0), b"")
        found = tuple(x509.load_der_x509_certificate(whole) for _, _, whole in _values(certificates))
    except UNREADABLE as failure:
        raise EnrolmentFailed(f"the answer is no certs-only PKCS#7: {failure}") from failure
    if not found:
        raise EnrolmentFailed("the answer holds no certificate")
    return found


def _values(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """Tag, content and whole of each BER value of definite length. Raises ValueError."""
    return list(_walk(data))


def _walk(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    rest = memoryview(data)
    while rest:
        if len(rest) < 2:
            raise ValueError("a value without a length")
        head, size = 2, rest[1]
        if size > 0x80:
            head += size - 0x80
            size = int.from_bytes(rest[2:head], "big")
        if size == 0x80 or len(rest) < head + size:
            raise ValueError("a value longer than the message")
        yield rest[0], bytes(rest[head : head + size]), bytes(rest[: head + size])
        rest = rest[head + size :]
