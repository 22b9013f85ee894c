"""The path from a leaf to a trusted certificate, through what the CA sent and the operator uploaded (RFC 5280 6.1)."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from cryptography import x509

from issuers.certificate import Certificate, signed_by
from issuers.errors import BadCertificate, Check
from issuers.name import same_name

DEEPEST = 8
"""Certificates of one path; an Izuma client takes five."""

Path = tuple[Certificate, ...]


def find_path(
    leaf: Certificate,
    sent: Sequence[Certificate],
    anchors: Sequence[Certificate],
    now: datetime,
    fits: Callable[[Path], bool] | None = None,
) -> Path:
    """The path from `leaf` up to the highest of `anchors` it reaches, verified link by link; of those that are there
    one that `fits` comes before a higher one.

    Anchors may be intermediates, share a subject, and stand beside each other; the order of `sent` means nothing.
    Raises BadCertificate with what is wrong, or what to upload.
    """
    search = _Search(sent, anchors, now)
    found = list(search.climb((leaf,)))
    if not found:
        raise BadCertificate(Check.PATH, search.explanation())
    if fits is None or len(found) == 1:
        return max(found, key=len)
    return max(found, key=lambda path: (fits(path), len(path)))


def why_untrusted(chain: Sequence[Certificate], anchors: Sequence[Certificate], now: datetime) -> str:
    """Why what the first of `chain` signs would lead to none of `anchors`, and what to upload; empty when it would."""
    issuing = chain[0]
    if any(
        each.subject == issuing.subject and each.parsed.public_key() == issuing.parsed.public_key() for each in anchors
    ):
        return ""
    try:
        find_path(issuing, chain[1:], anchors, now)
    except BadCertificate as error:
        return error.message
    return ""


class _Search:
    """One search upwards; keeps what it stumbled over, to be able to say why it failed."""

    def __init__(self, sent: Sequence[Certificate], anchors: Sequence[Certificate], now: datetime) -> None:
        self._candidates = tuple({each.der: each for each in (*sent, *anchors)}.values())
        self._anchors = {each.der for each in anchors}
        self._now = now
        self._misfits: list[str] = []
        self._ends: list[tuple[int, x509.Name]] = []

    def climb(self, path: Path) -> Iterator[Path]:
        child = path[-1]
        if len(path) == DEEPEST:
            self._misfits.append(f"the path is longer than {DEEPEST} certificates")
            return
        if child.self_signed:
            self._ends.append((len(path), child.subject))
            return
        known = False
        for candidate in self._candidates:
            if not same_name(candidate.subject_der, child.issuer_der) or candidate in path:
                continue
            known = True
            misfit = self._misfit(candidate, path)
            if misfit:
                self._misfits.append(misfit)
                continue
            longer = (*path, candidate)
            if candidate.der in self._anchors:
                yield longer
            yield from self.climb(longer)
        if not known:
            self._ends.append((len(path), child.issuer))

    def explanation(self) -> str:
        """Why nothing was found: the first link that does not hold, else the certificate to upload."""
        if self._misfits:
            return self._misfits[0]
        # No misfit means that every climb came to an end.
        _, end = max(self._ends, key=lambda each: each[0])
        name = end.rfc4514_string() or "an issuer without a name"
        return (
            f"the certificate's path ends at {name}, which is no active trusted certificate for the service; "
            f"upload the certificate of {name} as a trusted certificate of service lwm2m, then verify the issuer"
        )

    def _misfit(self, ca: Certificate, path: Path) -> str:
        """Why `ca` cannot have issued the top of `path`, empty when it can; signatures last, they cost most."""
        child = path[-1]
        if None not in (child.authority_key_id, ca.subject_key_id) and child.authority_key_id != ca.subject_key_id:
            return (
                f"the issuer key identifier of {child.name} is not that of {ca.name}: "
                "the CA has a new key, or this is another CA of the same name; upload its present certificate"
            )
        if not ca.is_ca or (ca.key_usage is not None and not ca.key_usage.key_cert_sign):
            return f"{ca.name}, which signed {child.name}, is not allowed to sign certificates"
        below = sum(not each.self_issued for each in path[1:])
        if ca.path_length is not None and below > ca.path_length:
            return f"{ca.name} allows {ca.path_length} CAs below it and has {below}"
        if not ca.not_before <= self._now < ca.not_after:
            return (
                f"the CA certificate {ca.name} is valid from {ca.not_before:%Y-%m-%d} to {ca.not_after:%Y-%m-%d}; "
                "renew the CA"
            )
        if not child.strong_signature:
            return f"{child.name} is signed with a hash weaker than SHA-256"
        if not signed_by(child, ca):
            return f"the signature of {child.name} is not by the key of {ca.name}"
        return ""
