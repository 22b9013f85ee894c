"""`POST /bs` and `/bspack`: who asks, may they, and with which profile (LwM2M Core 1.2 6.1.7.1, 6.1.7.2)."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID, uuid4

from lwm2m.bootstrap import parse_bootstrap_request
from lwm2m.coap import message as coap
from lwm2m.coap.exchange import RequestReceived
from lwm2m.content_format import negotiate
from lwm2m.errors import DecodeError
from lwm2m.steps import Failed, FailureCause
from server import enrolment, operational, policy
from server.coap.association import CoapAssociation
from server.coap.responses import response_for
from server.errors import (
    ClaimedElsewhere,
    NoProfile,
    NotAuthenticated,
    NotAuthorized,
    ServiceError,
    TemporarilyUnavailable,
    UnsupportedFormat,
)
from server.knowledge import Knowledge
from server.metrics import Metrics
from server.outcomes import Outcome, Outcomes
from server.seen import Seen
from server.sessions import Sessions
from server.store.certificates import CertificateRow
from server.store.database import Database
from server.store.errors import StoreUnavailable
from server.transport.engine import PeerIdentity

# Seconds a device is told to stay away while the record cannot be read.
RETRY_AFTER = 5.0


class BootstrapResource:
    """The two bootstrap resources a device calls."""

    def __init__(
        self,
        *,
        database: Database,
        knowledge: Knowledge,
        sessions: Sessions,
        seen: Seen,
        outcomes: Outcomes,
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._knowledge = knowledge
        self._sessions = sessions
        self._seen = seen
        self._outcomes = outcomes
        self._now = now
        self._metrics = metrics

    async def post(self, conversation: CoapAssociation, incoming: RequestReceived) -> None:
        """Admit the device and run its bootstrap; a refusal is answered by its code and noted for the operator."""
        try:
            admitted = await self._admit(conversation, incoming)
        except (ServiceError, DecodeError) as error:
            code, options = response_for(error)
            conversation.respond(incoming.request_id, code, options=options)
            verdict = Failed(_cause(error), None, code, str(error))
            await self._refused(conversation, verdict, elsewhere=isinstance(error, ClaimedElsewhere))
            return
        await enrolment.admitted(self._database, conversation.association.peer, admitted, self._now())
        await self._sessions.run(conversation, incoming, admitted)

    async def _refused(self, conversation: CoapAssociation, verdict: Failed, *, elsewhere: bool) -> None:
        """Note who was not admitted; where the credential proves whose device it is, as its bootstrap too.

        `elsewhere`: it is a device of an account that did not ask to see it here, and nobody else is told of it.
        """
        association = conversation.association
        peer = association.peer
        identity = f"{peer.label}: {verdict.detail}"
        self._seen.note(association.address_text, verdict.cause.value, peer.kind, identity)
        self._metrics.bootstraps.inc("started")
        proven = None if elsewhere else _proven(peer)
        if proven is None:
            self._metrics.bootstraps.inc("failed")
            self._metrics.failures.inc(verdict.cause.value)
            if verdict.cause is FailureCause.NOT_AUTHORIZED and not elsewhere:
                await enrolment.denied(self._database, peer, peer.label)
            return
        account_id, endpoint = proven
        await self._outcomes.write(
            Outcome(
                session_id=uuid4(),
                account_id=account_id,
                endpoint=endpoint,
                profile=None,
                credential=peer.kind,
                address=association.address_text,
                started_at=self._now(),
                seconds=0.0,
                verdict=verdict,
                factory=policy.factory(peer, account_id),
                tape=conversation.tape,
            )
        )

    async def pack(self, conversation: CoapAssociation, incoming: RequestReceived) -> None:
        """5.01 sends a 1.2 client on to `/bs` (LwM2M Core 1.2 6.1.7.2); that it asked says it speaks 1.2."""
        conversation.said_1_2 = True
        conversation.respond(incoming.request_id, coap.NOT_IMPLEMENTED)

    async def _admit(self, conversation: CoapAssociation, incoming: RequestReceived) -> policy.Admitted:
        association = conversation.association
        peer = association.peer = await self._knowledge.present(association.peer)
        shown = await self._shown(peer)
        request = parse_bootstrap_request(incoming.query)
        if negotiate(request.pct) is None:
            raise UnsupportedFormat(f"pct={request.pct} is no format this server writes")
        if shown is not None:
            claimed_by: UUID | None = shown.account_id
        else:
            claimed_by = await enrolment.claimed_by(self._database, peer, request)
        admitted = policy.admit(
            peer=peer,
            request=request,
            profiles_of=self._knowledge.profiles_of,
            asked_for_pack=conversation.said_1_2,
            claimed_by=claimed_by,
        )
        if shown is not None and admitted.account_id != shown.account_id:
            raise ClaimedElsewhere("the certificate was issued to a device of another account than the one it names")
        return admitted

    async def _shown(self, peer: PeerIdentity) -> CertificateRow | None:
        """The operational certificate that the peer shows instead of a factory one, if its account takes that."""
        try:
            shown = await operational.shown_at_bootstrap(self._database, peer, self._knowledge.with_custom_services)
        except StoreUnavailable as error:
            raise TemporarilyUnavailable(f"the certificates on record cannot be read: {error}", RETRY_AFTER) from error
        if shown is not None:
            operational.require_own(peer, shown)
            operational.require_bootstraps(shown)
        return shown


def _cause(error: ServiceError | DecodeError) -> FailureCause:
    match error:
        case NoProfile():
            return FailureCause.NO_PROFILE
        case NotAuthenticated() | NotAuthorized():
            return FailureCause.NOT_AUTHORIZED
        case TemporarilyUnavailable():
            return FailureCause.STORE_UNAVAILABLE
        case _:
            return FailureCause.BAD_REQUEST


def _proven(peer: PeerIdentity) -> tuple[UUID, str] | None:
    """Account and endpoint name that the credential alone proves, whatever was asked."""
    try:
        return policy.account_of_peer(peer, None), policy.endpoint_of(peer, None)
    except ServiceError:
        return None
