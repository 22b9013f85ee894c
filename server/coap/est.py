"""EST over CoAP: `/.well-known/est` and `/est`, each with one optional label, and their discovery (RFC 9148).

Requests are taken at any time on an authenticated association: before, during and after a bootstrap, or later with the
operational certificate. The label is the service whose CA is asked.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from issuers.errors import BadCertificate, Check, IssuerError
from issuers.returned import DeviceLimits
from issuers.subject import Subject
from lwm2m import est, link_format
from lwm2m.coap import message as coap
from lwm2m.coap import options as coap_options
from lwm2m.coap.exchange import RequestReceived
from lwm2m.content_format import ContentFormat
from lwm2m.est import Function, MediaType, Resource
from lwm2m.multipart import encode_parts
from lwm2m.plan import Learned
from server import izuma, operational, profile_est
from server.coap.association import CoapAssociation
from server.coap.responses import response_for
from server.device_made import CsrWish, DeviceMade
from server.enrollments import Ending, Enrollments
from server.errors import BadAnswer, ClaimedElsewhere, NotAcceptable, NotFound, ServiceError, UnsupportedFormat
from server.farewells import Farewells
from server.issuance import Issuance, Wish
from server.issuer_failures import OF_A_CA, failure
from server.knowledge import Knowledge
from server.latencies import LONGEST_HOLD
from server.requester import (
    Requester,
    admit,
    checked_csr,
    from_factory,
    from_operational,
    is_operational,
    renews_by_record,
    subject_of,
)
from server.store import certificates, devices
from server.store.accounts import LWM2M
from server.store.certificates import CertificateRow
from server.store.database import Database
from server.store.devices import DeviceRow
from server.store.errors import StoreUnavailable
from server.transport.association import Stay
from server.transport.engine import PeerIdentity

# Seconds for the last words of an exchange: a separate response and its repeats (MAX_TRANSMIT_SPAN, RFC 7252 4.8.2).
LAST_WORDS = 45.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets; `format` None for the one that has no number."""

    payload: bytes
    format: MediaType | ContentFormat | None

    @property
    def options(self) -> list[tuple[int, bytes]]:
        """Its Content-Format."""
        if self.format is None:
            return []
        return [(coap_options.CONTENT_FORMAT, coap_options.encode_uint(self.format))]


class EstResource:
    """The EST resources of one worker."""

    def __init__(
        self,
        *,
        database: Database,
        knowledge: Knowledge,
        issuance: Issuance,
        device_made: DeviceMade,
        enrollments: Enrollments,
        farewells: Farewells,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._knowledge = knowledge
        self._issuance = issuance
        self._device_made = device_made
        self._enrollments = enrollments
        self._farewells = farewells
        self._clock = clock
        self._now = now

    # -- what devices call ----------------------------------------

    async def discover(self, conversation: CoapAssociation, incoming: RequestReceived) -> None:
        """`GET /.well-known/core`: the EST resources, those of the account's custom services too (RFC 9148 5.1)."""
        if coap_options.accept(incoming.options) not in (None, ContentFormat.LINK):
            raise NotAcceptable("discovery is in link format")
        try:
            account_id = (await self._requester(conversation)).account_id
            labels = [service for service in self._knowledge.services_of(account_id) if service != est.LWM2M]
        except ServiceError:
            labels = []
        # A service may have a name that no path can hold.
        usable = [label for label in labels if est.parse_path((*est.ROOT, label, Function.ENROLL.value)) is not None]
        answer = Answer(link_format.serialise(est.links(usable, incoming.query)), ContentFormat.LINK)
        conversation.respond(incoming.request_id, coap.CONTENT, options=answer.options, payload=answer.payload)

    async def read(self, conversation: CoapAssociation, incoming: RequestReceived) -> None:
        """`GET …/crts` and `…/att` (RFC 9148 5.2)."""
        resource = _resource(incoming)
        try:
            requester = await self._requester(conversation)
            admit(requester, resource)
            format = _format(resource, incoming, requester.profile.est.answer)
            self._require_service(requester, resource)
            if resource.function is Function.CSR_ATTRIBUTES:
                payload = est.encode_csr_attributes(est.WANTED_CSR)
            else:
                payload = await self._ca_certificates(requester, resource, format)
        except IssuerError as error:
            raise failure(error)[1] from error
        answer = Answer(payload, format)
        conversation.respond(incoming.request_id, coap.CONTENT, options=answer.options, payload=answer.payload)

    async def enroll(self, conversation: CoapAssociation, incoming: RequestReceived) -> None:
        """`POST …/sen`, `…/sren`, `…/skg`, `…/skc`: a certificate for a CSR (RFC 9148 5.3, 5.8)."""
        resource = _resource(incoming)
        ending = Ending(
            path="/" + "/".join(incoming.path),
            service=resource.service,
            began=self._clock(),
            started_at=self._now(),
        )
        self._farewells.enrolling(conversation)
        self._enrollments.begun()
        try:
            await self._enroll(conversation, incoming, resource, ending)
            await self._enrollments.ended(conversation, ending)
        finally:
            self._farewells.enrolled(conversation)

    # -- an enrolment ----------------------------------------

    async def _enroll(
        self, conversation: CoapAssociation, incoming: RequestReceived, resource: Resource, ending: Ending
    ) -> None:
        """Answer, wait until the device has the answer, and leave in `ending` how it went."""
        respond = conversation.respond
        try:
            requester = await self._requester(conversation)
            self._enrollments.asked(requester, ending, self._knowledge.services_of(requester.account_id))
            resource = admit(requester, resource)
            format = _format(resource, incoming, requester.profile.est.answer)
            content_format = coap_options.content_format(incoming.options)
            if not est.takes_request_format(resource, content_format):
                raise UnsupportedFormat(f"a CSR comes in Content-Format 286, not {content_format}")
            self._require_service(requester, resource)
            recorded: list[x509.Certificate] = []
            if renews_by_record(requester, resource):
                recorded = await self._recorded(requester, resource)
            csr = checked_csr(requester, resource, incoming.payload, recorded)
            if resource.function in (Function.SERVER_KEY, Function.SERVER_KEY_CERTIFICATE):
                await self._give_server_key(conversation, incoming, resource, requester, ending)
                return
            wish = self._wish(conversation, requester, resource, csr)
            stay = self._stay(conversation, wish.hold_seconds)
            try:
                certified = await self._device_made.certificate(wish)
            finally:
                stay.end(self._clock() + LAST_WORDS)
            ending.issuance_id = certified.issuance_id
            ending.note = "the recorded certificate once more" if certified.again else ""
            _fits(certified.chain, wish.limits)
            answer = _certificates(requester, resource, incoming, certified.chain, format)
        except (ServiceError, IssuerError, StoreUnavailable) as error:
            code, options = response_for(_told(error))
            respond(incoming.request_id, code, options=options)
            ending.refused(error, code)
            if ending.requester is not None and ending.cause in OF_A_CA:
                ending.failed_ca = self._knowledge.ca_of(ending.requester.account_id, ending.service)
            return
        ending.answered(coap.CHANGED, answer.payload, answer.format)
        if await respond(incoming.request_id, coap.CHANGED, options=answer.options, payload=answer.payload):
            ending.delivered = True
            conversation.visit.delivered.add(resource.service)
            await self._device_made.delivered(certified.issuance_id)

    def _wish(
        self,
        conversation: CoapAssociation,
        requester: Requester,
        resource: Resource,
        csr: x509.CertificateSigningRequest,
    ) -> CsrWish:
        settings, session = requester.profile.est, conversation.visit.session
        return CsrWish(
            account_id=requester.account_id,
            device_id=requester.device_id,
            endpoint=requester.endpoint,
            service=resource.service,
            csr=csr,
            session_id=session.id if session is not None else None,
            limits=DeviceLimits(certificate_bytes=settings.certificate_bytes),
            hold_seconds=izuma.hold_seconds(settings, requester.izuma),
            retry_after=settings.retry_after,
            renews=requester.issuance_id if resource.function is Function.REENROLL else None,
        )

    async def _give_server_key(
        self,
        conversation: CoapAssociation,
        incoming: RequestReceived,
        resource: Resource,
        requester: Requester,
        ending: Ending,
    ) -> None:
        """A key of ours and its certificate in one answer; the CSR's own key and signature mean nothing (5.8)."""
        settings, latencies = requester.profile.est, self._issuance.attempts.latencies
        active = await self._knowledge.issuer_for(requester.account_id, resource.service)
        hold = settings.hold_seconds if settings.hold_seconds is not None else latencies.hold(active.id)
        wish = Wish(
            account_id=requester.account_id,
            device_id=requester.device_id,
            endpoint=requester.endpoint,
            service=resource.service,
            subject=Subject.of(subject_of(requester, resource.service)),
            session_id=uuid4(),
            counted=True,
            hold_seconds=hold,
            retry_after=settings.retry_after or latencies.retry_after(active.id, hold),
            limits=DeviceLimits(certificate_bytes=settings.certificate_bytes),
        )
        stay = self._stay(conversation, hold)
        try:
            made = await self._issuance.server_made(wish)
        finally:
            stay.end(self._clock() + LAST_WORDS)
        ending.issuance_id = made.issuance_id
        alone = resource.function is Function.SERVER_KEY_CERTIFICATE
        format = MediaType.CERTIFICATE if alone else MediaType.PKCS7
        delivered = False
        try:
            # It may have been made for a bootstrap.
            _fits(made.credential.chain, wish.limits)
            chain = est.encode_chain(made.credential.chain, format, requester.profile.est.pkcs7_order)
            payload = encode_parts([(MediaType.PKCS8, made.credential.private_key_pkcs8), (format, chain)])
            answer = Answer(payload, MediaType.MULTIPART)
            ending.answered(coap.CHANGED, answer.payload, answer.format)
            delivered = await conversation.respond(
                incoming.request_id, coap.CHANGED, options=answer.options, payload=answer.payload
            )
        finally:
            if delivered:
                self._issuance.delivered(made.issuance_id, wish)
            else:
                self._issuance.returned(made.issuance_id, wish)
        if delivered:
            ending.delivered = True
            conversation.visit.delivered.add(resource.service)
            await self._device_made.delivered(made.issuance_id)

    def _stay(self, conversation: CoapAssociation, hold: float | None) -> Stay:
        """Keep the association of a device that waits: it has nothing to say meanwhile."""
        longest = LONGEST_HOLD if hold is None else hold
        return conversation.association.stay(self._clock() + longest + LAST_WORDS)

    # -- who asks, and for what ----------------------------------------

    async def _requester(self, conversation: CoapAssociation) -> Requester:
        association = conversation.association
        peer = association.peer = await self._knowledge.present(association.peer)
        profiles_of = self._knowledge.profiles_of
        custom = self._knowledge.with_custom_services
        shown = None if is_operational(peer) else await operational.shown_at_bootstrap(self._database, peer, custom)
        if is_operational(peer) or not _may_bootstrap(peer, shown):
            device = await operational.device_of(self._database, peer)
        elif shown is not None and shown.service != LWM2M:
            device = operational.device_on_record(shown)
        else:
            issued_for = shown.account_id if shown is not None else None
            requester = from_factory(peer, conversation.visit.admitted, profiles_of, issued_for=issued_for)
            if shown is not None:
                requester = replace(requester, issuance_id=shown.issuance_id)
            if conversation.visit.admitted is not None:
                return requester
            row = await devices.find(self._database, requester.account_id, requester.endpoint)
            return replace(requester, izuma=izuma.is_izuma(requester.profile, None, before=_was_izuma(row)))
        row = await devices.find(self._database, device.account_id, device.endpoint)
        was_izuma = _was_izuma(row)
        factory: frozenset[str] = frozenset()
        if row is not None and row.verified_by is not None:
            factory = self._knowledge.trust.words_of(device.account_id, row.verified_by)
        return from_operational(peer, device, profiles_of, was_izuma=was_izuma, factory=factory)

    async def _recorded(self, requester: Requester, resource: Resource) -> list[x509.Certificate]:
        """The certificates for a service that its device may be renewing."""
        found = await certificates.of_service(
            self._database, requester.account_id, requester.endpoint, resource.service
        )
        return [x509.load_der_x509_certificate(each) for each in found]

    def _require_service(self, requester: Requester, resource: Resource) -> None:
        if resource.service not in self._knowledge.services_of(requester.account_id):
            raise NotFound(f"no CA is configured for the service {resource.service}")

    async def _ca_certificates(self, requester: Requester, resource: Resource, format: MediaType) -> bytes:
        found = await self._knowledge.ca_certificates(requester.account_id, resource.service)
        shown = [certificate.public_bytes(Encoding.DER) for certificate in found]
        if format is MediaType.CERTIFICATE:
            # One alone is the one that everything ends at.
            shown = shown[-1:]
        if not shown:
            raise NotFound(f"the CA of the service {resource.service} shows no certificate")
        return est.encode_chain(shown, format, requester.profile.est.pkcs7_order)


def _may_bootstrap(peer: PeerIdentity, shown: CertificateRow | None) -> bool:
    """Whether the peer's anchors of service bootstrap count: not for another account's operational certificate."""
    if shown is not None:
        try:
            operational.require_own(peer, shown)
        except ClaimedElsewhere:
            return False
    return True


def _was_izuma(row: DeviceRow | None) -> bool:
    """Whether a bootstrap of the device showed that it is an Izuma client."""
    return row is not None and Learned.from_json(row.learned).izuma


def _resource(incoming: RequestReceived) -> Resource:
    resource = est.parse_path(incoming.path)
    if resource is None:
        raise NotFound("there is no such EST resource")
    return resource


def _format(resource: Resource, incoming: RequestReceived, unasked: profile_est.Answer) -> MediaType:
    accept = coap_options.accept(incoming.options)
    if accept is None and unasked == "certificate" and resource.function in (Function.ENROLL, Function.REENROLL):
        return MediaType.CERTIFICATE
    format = est.answer_format(resource.function, accept)
    if format is None:
        raise NotAcceptable(f"{resource.function.value} has no answer in Content-Format {accept}")
    return format


def _told(error: ServiceError | IssuerError | StoreUnavailable) -> Exception:
    """What answers the device. A CA that gives what no device may have is a bad gateway (RFC 7252 5.9.3.3)."""
    if isinstance(error, BadCertificate):
        return BadAnswer(error.message)
    return failure(error)[1] if isinstance(error, IssuerError) else error


def _certificates(
    requester: Requester, resource: Resource, incoming: RequestReceived, chain: tuple[bytes, ...], format: MediaType
) -> Answer:
    """The chain as the device takes it: the Izuma client's own format where it names none."""
    settings = requester.profile.est
    if (
        izuma.takes_own_chain(settings, requester.izuma)
        and resource.short
        and coap_options.accept(incoming.options) is None
    ):
        return Answer(est.encode_izuma_chain(chain), None)
    return Answer(est.encode_chain(chain, format, settings.pkcs7_order), format)


def _fits(chain: tuple[bytes, ...], limits: DeviceLimits) -> None:
    """Again, because a recorded chain may have been checked before the profile said less."""
    if len(chain) > limits.chain_length or any(len(each) > limits.certificate_bytes for each in chain):
        raise BadCertificate(
            Check.SIZE,
            f"a certificate of the chain is larger than {limits.certificate_bytes} bytes, or there are more than "
            f"{limits.chain_length}; set est.certificate_bytes of the profile to what the device stores",
        )
