"""`POST /bs` and `GET /bspack`: who asks, may they, and with which profile (LwM2M Core 1.2 6.1.7.1, 6.1.7.2)."""

from lwm2m.bootstrap import parse_bootstrap_request
from lwm2m.coap import message as coap
from lwm2m.coap.exchange import RequestReceived
from lwm2m.content_format import negotiate
from lwm2m.errors import DecodeError
from server import policy
from server.coap.endpoint import CoapAssociation
from server.errors import ServiceError, UnsupportedFormat
from server.knowledge import Knowledge
from server.seen import Seen
from server.sessions import Sessions


class BootstrapResource:
    """The two bootstrap resources a device calls."""

    def __init__(self, *, knowledge: Knowledge, sessions: Sessions, seen: Seen) -> None:
        self._knowledge = knowledge
        self._sessions = sessions
        self._seen = seen

    async def post(self, conversation: CoapAssociation, incoming: RequestReceived) -> None:
        """Admit the device and run its bootstrap; a refusal is noted for the operator and answered by its code."""
        try:
            admitted = self._admit(conversation, incoming)
        except (ServiceError, DecodeError) as error:
            peer = conversation.association.peer
            self._seen.note(
                conversation.association.address_text,
                type(error).__name__,
                peer.kind,
                f"{peer.label}: {error}",
            )
            raise
        await self._sessions.run(conversation, incoming, admitted)

    async def pack(self, conversation: CoapAssociation, incoming: RequestReceived) -> None:
        """5.01 sends a 1.2 client on to `/bs` (LwM2M Core 1.2 6.1.7.2); that it asked says it speaks 1.2."""
        conversation.said_1_2 = True
        conversation.respond(incoming.request_id, coap.NOT_IMPLEMENTED)

    def _admit(self, conversation: CoapAssociation, incoming: RequestReceived) -> policy.Admitted:
        request = parse_bootstrap_request(incoming.query)
        if negotiate(request.pct) is None:
            raise UnsupportedFormat(f"pct={request.pct} is no format this server writes")
        return policy.admit(
            peer=conversation.association.peer,
            request=request,
            profiles_of=self._knowledge.profiles_of,
            asked_for_pack=conversation.said_1_2,
        )
