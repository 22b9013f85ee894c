"""CFSSL by its authenticated signing endpoint, `authsign` (issuer type CFSSL_AUTH; cloudflare/cfssl `doc/api`).

Works with `cfssl serve` and `multirootca`, version 1.2.0 (Debian's, of 2016) and newer. CFSSL is not idempotent and
keeps nothing to ask for: a request whose answer was lost may leave a certificate that nobody has.

Attributes, all of them texts (the first three as in the Izuma API):

    host_url        http(s)://host[:port][/prefix]; a trailing /api/v1/cfssl is taken off. Without a scheme it is
                    read as CFSSL's own client reads it: http, and port 8888 when none is given
    cfssl_profile   the signing profile; without it CFSSL takes `default`, also for a name it does not know
    cfssl_label     the signer of a multirootca; `cfssl serve` ignores it
    tls_roots       PEM: what to trust for https instead of the public CAs; roots, or the server's own certificate
    bundle          "true" asks for the chain with each certificate: CFSSL 1.6 with -ca-bundle and -int-bundle

Credentials, never shown:

    hmac_hex_key         the profile's `auth_key`: 1 to 32 bytes in hexadecimal
    client_certificate   PEM: our certificate for mutual TLS, then those that lead to its root
    private_key          PEM: its private key, not encrypted
"""

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from issuers.base import Capability, CheckReport, Issued, Issuer, IssueRequest, Recovery
from issuers.certificate import UNREADABLE, Certificate, read_certificate
from issuers.cfssl_api import PREFIX, CfsslApi, CfsslOptions, Reply, Signer, read_signer
from issuers.cfssl_check import Examination
from issuers.errors import BadCertificate, Check, IssuerError, Misconfigured, OutcomeUnknown, Rejected
from issuers.http import read_url
from issuers.options import about, option, refuse_unknown
from issuers.pem import answered_certificate, read_certificates, read_private_key
from issuers.reach import Reach
from issuers.tls import TlsIdentity

BARE_PORT = 8888
"""What CFSSL's own client assumes (`api/client/client.go`)."""
SIGNER_SECONDS = 86400.0
"""How long the issuing certificate counts without being asked for again."""

ATTRIBUTES = ("host_url", "cfssl_profile", "cfssl_label", "tls_roots", "bundle")
CREDENTIALS = ("hmac_hex_key", "client_certificate", "private_key")

_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){1,32}", re.ASCII)


class CfsslIssuer(Issuer):
    """One CFSSL signer, or one label of a multirootca."""

    type = "CFSSL_AUTH"
    capabilities = frozenset({Capability.CHAIN})
    recovery = Recovery.NONE

    def __init__(self, options: CfsslOptions, reach: Reach) -> None:
        """Raises Misconfigured when client certificate and key do not belong together."""
        self._options = options
        self._reach = reach
        self._api = CfsslApi(options, reach)
        self._signer: Signer | None = None
        self._signer_until = 0.0
        self._one_asks = asyncio.Lock()
        # What a bundle told: the issuing certificate and those above it, root last.
        self._bundled: tuple[x509.Certificate, ...] = ()

    @classmethod
    def open(
        cls, name: str, attributes: Mapping[str, object], credentials: Mapping[str, object], reach: Reach
    ) -> "CfsslIssuer":
        """Open by the registry: the attributes and credentials of the module's docstring. Raises Misconfigured."""
        what = f"issuer {name!r}"
        refuse_unknown(attributes, ATTRIBUTES, what)
        refuse_unknown(credentials, CREDENTIALS, what)
        with about("host_url"):
            url, bare = _read_host_url(option(attributes, "host_url", str, what), f"'host_url' of {what}")
        with about("tls_roots"):
            text = option(attributes, "tls_roots", str, what, "")
            roots = read_certificates(text, f"'tls_roots' of {what}") if text else ()
        with about("hmac_hex_key"):
            hmac_key = _read_hmac_key(option(credentials, "hmac_hex_key", str, what), f"'hmac_hex_key' of {what}")
        bundle = option(attributes, "bundle", str, what, "false")
        if bundle not in ("true", "false"):
            raise Misconfigured(f"'bundle' of {what} is {bundle!r}; give 'true' or 'false'", "bundle")
        options = CfsslOptions(
            url=url,
            bare_url=bare,
            profile=option(attributes, "cfssl_profile", str, what, ""),
            label=option(attributes, "cfssl_label", str, what, ""),
            bundle=bundle == "true",
            roots=roots,
            hmac_key=hmac_key,
            identity=_read_identity(credentials, what),
        )
        if url.scheme != "https" and (options.roots or options.identity):
            key = "tls_roots" if options.roots else "client_certificate"
            raise Misconfigured(
                f"{key!r} of {what} is for TLS, and 'host_url' begins with http://; use https://", "host_url"
            )
        return cls(options, reach)

    async def issue(self, request: IssueRequest) -> Issued:
        """`authsign` the CSR; the chain comes from `info`, asked before, so that nothing is signed in vain."""
        issued, _ = await self._issue(request)
        return issued

    async def ca_certificates(self) -> tuple[x509.Certificate, ...]:
        """The issuing certificate, and those above it when a bundle has told them."""
        issuing = (await self._known_signer()).certificate.parsed
        return self._bundled if issuing in self._bundled[:1] else (issuing,)

    async def check(self, issue_test: IssueRequest | None, now: datetime) -> CheckReport:
        """The steps reach, authenticate, policy, chain, test certificate, open endpoints and clock."""
        async with self._one_asks:
            self._signer = None
        anonymous = CfsslApi(self._options, self._reach, identified=False) if self._options.identity else None
        try:
            return await Examination(self._options, self._api, anonymous, self._issue, now).run(issue_test)
        finally:
            if anonymous is not None:
                await anonymous.aclose()

    async def aclose(self) -> None:
        """Let connections go."""
        await self._api.aclose()

    async def _issue(self, request: IssueRequest) -> tuple[Issued, bool]:
        """What was issued, and whether its chain came as a bundle."""
        key = request.csr.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Rejected("the CSR's key is not on P-256; CFSSL would sign it, but no LwM2M device has such a key")
        signer = await self._known_signer()
        profile = self._options.profile
        csr = request.csr.public_bytes(Encoding.PEM).decode("ascii")
        reply = await self._api.authsign(profile, csr, bundle=self._options.bundle)
        if not reply.success:
            raise await self._api.refused(reply, profile)
        leaf = answered_certificate(reply.result.get("certificate", ""), reply.answer.where)
        issuing = (await self._signer_of(leaf, signer)).certificate
        reference = f"{leaf.serial_number:x}"
        chain, self._bundled = _read_bundle(leaf, reply)
        if chain:
            return Issued(leaf, chain, reference), True
        return Issued(leaf, (leaf,) if issuing.self_signed else (leaf, issuing.parsed), reference), False

    async def _known_signer(self, instead_of: Signer | None = None) -> Signer:
        """The signer as `info` tells it: the remembered one, unless it is a day old or `instead_of`."""
        async with self._one_asks:
            now = asyncio.get_running_loop().time()
            if self._signer is None or self._signer is instead_of or now >= self._signer_until:
                self._signer = None
                reply = await self._api.info(self._options.profile)
                if not reply.success:
                    raise await self._api.refused(reply, self._options.profile)
                self._signer = read_signer(reply)
                self._signer_until = now + SIGNER_SECONDS
            return self._signer

    async def _signer_of(self, leaf: x509.Certificate, signer: Signer) -> Signer:
        """The signer of `leaf`: `signer`, or what `info` tells when asked once more; raises BadCertificate."""
        try:
            read = read_certificate(leaf)
        except UNREADABLE as error:
            raise BadCertificate(
                Check.PARSE, f"the certificate that {self._api.where} gave cannot be read: {error}"
            ) from error
        if _fits(read, signer.certificate):
            return signer
        try:
            signer = await self._known_signer(instead_of=signer)
        except IssuerError as error:
            raise OutcomeUnknown(
                f"a certificate was issued, but its issuing certificate could not be fetched: {error.message}"
            ) from error
        if _fits(read, signer.certificate):
            return signer
        raise BadCertificate(
            Check.PATH,
            f"the certificate was not signed by {signer.certificate.name}, which {self._api.where} shows as its "
            "issuing CA (info): their key identifiers differ; the CA has a new key, or profile and label lead to two "
            "CAs; start CFSSL again with one CA",
        )


def _fits(leaf: Certificate, issuing: Certificate) -> bool:
    """Whether `issuing` may be the leaf's issuer, by key identifiers (RFC 5280 4.2.1.1), else by name."""
    if None in (leaf.authority_key_id, issuing.subject_key_id):
        return leaf.issuer == issuing.subject
    return leaf.authority_key_id == issuing.subject_key_id


def _read_bundle(
    leaf: x509.Certificate, reply: Reply
) -> tuple[tuple[x509.Certificate, ...], tuple[x509.Certificate, ...]]:
    """The chain of `leaf` without a root, and the CA's own certificates up to the root; empty without a bundle."""
    bundle = reply.result.get("bundle")
    if not isinstance(bundle, Mapping):
        return (), ()
    try:
        chain = tuple(x509.load_pem_x509_certificates(str(bundle.get("bundle", "")).encode()))
        root = x509.load_pem_x509_certificate(str(bundle.get("root", "")).encode())
    except UNREADABLE as error:
        raise BadCertificate(
            Check.PARSE, f"the bundle that {reply.answer.where} sent cannot be read: {error}; turn 'bundle' off"
        ) from error
    if chain[0] != leaf:
        raise BadCertificate(
            Check.ONE_LEAF, f"the bundle that {reply.answer.where} sent begins with another certificate"
        )
    return chain, (*chain[1:], root)


def _read_host_url(text: str, what: str) -> tuple[httpx.URL, bool]:
    """The URL without CFSSL's own path, and whether it came without a scheme."""
    text = text.strip()
    if not text:
        raise Misconfigured(f"{what} is empty; give the address of CFSSL, https://host:port")
    if "," in text:
        raise Misconfigured(f"{what} names several servers; give one, or a name that leads to all of them")
    bare = "://" not in text
    url = read_url(f"http://{text}" if bare else text, what, default_port=BARE_PORT if bare else None)
    return url.copy_with(path=url.path.rstrip("/").removesuffix(PREFIX).rstrip("/")), bare


def _read_hmac_key(text: str, what: str) -> bytes:
    """The bytes of the key; no message repeats any of them."""
    text = text.strip()
    if _HEX.fullmatch(text) is None:
        odd = len(text) % 2 and all(each in "0123456789abcdefABCDEF" for each in text)
        problem = f"it has {len(text)}, an odd number" if odd else "it has others, none, or too many"
        raise Misconfigured(f"{what} must be 2 to 64 hexadecimal characters, an even number of them; {problem}")
    return bytes.fromhex(text)


def _read_identity(credentials: Mapping[str, object], what: str) -> TlsIdentity | None:
    certificate = option(credentials, "client_certificate", str, what, "")
    private_key = option(credentials, "private_key", str, what, "")
    if not certificate and not private_key:
        return None
    if not certificate or not private_key:
        missing = "private_key" if certificate else "client_certificate"
        raise Misconfigured(
            f"{missing!r} of {what} is missing; 'client_certificate' and 'private_key' come together", missing
        )
    with about("client_certificate"):
        chain = read_certificates(certificate, f"'client_certificate' of {what}")
    with about("private_key"):
        return TlsIdentity(chain, read_private_key(private_key, "", f"'private_key' of {what}"))
