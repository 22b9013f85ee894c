"""One established DTLS association: what the CoAP side holds, and what it gives for it."""

from typing import Protocol

from server.transport.counters import Counters
from server.transport.engine import PeerIdentity, Session, SessionState
from server.transport.sockets import Address, Flow, address_text, local_text


class Upper(Protocol):
    """What stands above an association."""

    def datagram_received(self, plaintext: bytes) -> None:
        """Take one decrypted record."""

    def association_lost(self, reason: str) -> None:
        """The association ended, by whichever side; called exactly once, the last call.

        `reason` is closed (by `Association.close`), closed_by_peer, replaced, idle, failed or shutdown.
        """


class Driver(Protocol):
    """The socket under an association."""

    counters: Counters

    @property
    def local_address(self) -> str:
        """The IP address it is bound to."""

    def send(self, datagram: bytes, flow: Flow) -> None:
        """Send to the peer of `flow`."""

    def forget(self, flow: Flow, association: "Association") -> None:
        """Take no more datagrams for it."""


class Stay:
    """While this lasts an association outlives the silence of its device."""

    __slots__ = ("_association", "_before", "_until")

    def __init__(self, association: "Association", until: float) -> None:
        self._association = association
        self._before = before = association.stays_until
        self._until = association.stays_until = max(before, until)

    def end(self, until: float = 0.0) -> None:
        """It is over, or `until` then; nothing when somebody has said since how long the association stays."""
        if self._association.stays_until == self._until:
            self._association.stays_until = max(self._before, until)


class Association:
    """One established DTLS association; plain slots, there are thousands."""

    __slots__ = (
        "_driver",
        "_flow",
        "_session",
        "_upper",
        "attempt",
        "cleartext_mtu",
        "established_at",
        "last_received_at",
        "peer",
        "stays_until",
    )

    def __init__(
        self,
        driver: Driver,
        flow: Flow,
        session: Session,
        peer: PeerIdentity,
        attempt: bytes,
        now: float,
    ) -> None:
        self._driver = driver
        self._flow = flow
        self._session: Session | None = session
        self._upper: Upper | None = None
        self.peer = peer
        # `ClientHello.attempt` of the one that made it, which tells a late copy of that from a rebooted device.
        self.attempt = attempt
        self.established_at = now
        self.last_received_at = now
        # A device that is registered may be silent for longer than others; on the endpoint's clock.
        self.stays_until = 0.0
        # Longest plaintext in bytes for one datagram within the MTU.
        self.cleartext_mtu = session.cleartext_mtu

    @property
    def address(self) -> Address:
        """The peer's socket address."""
        return self._flow[0]

    @property
    def address_text(self) -> str:
        """The peer's address as `host:port`."""
        return address_text(self._flow[0])

    @property
    def local_address(self) -> str:
        """Our IP address that the peer asked."""
        asked = self._flow[1]
        return self._driver.local_address if asked is None else local_text(asked)

    def send(self, plaintext: bytes) -> None:
        """Send one record; lost silently like any datagram, also when the association has ended.

        More than `cleartext_mtu` bytes leave as one larger datagram, which IP may fragment (docs/transport.md 16), or
        end the association of a client that asked for shorter records.
        """
        session = self._session
        if session is None:
            return
        if len(plaintext) > self.cleartext_mtu:
            self._driver.counters.oversized += 1
        datagram = session.send(plaintext)
        if datagram:
            self._driver.send(datagram, self._flow)
        if session.state is SessionState.CLOSED:
            self.end("failed")

    def stay(self, until: float) -> Stay:
        """Keep it till then, on the endpoint's clock, for a device that has nothing to say meanwhile; `end` what comes
        back.
        """
        return Stay(self, until)

    def close(self) -> None:
        """Say close_notify and forget the association."""
        self.farewell("closed")

    # -- for the endpoint -----------------------------------------------------------------------------------

    def receive(self, datagram: bytes, now: float) -> None:
        """Take one datagram of this flow."""
        session = self._session
        if session is None:
            return
        plaintext = session.receive_record(datagram)
        if plaintext:
            self.last_received_at = now
            # The usual case, all of it; whoever takes it may end the association.
            if self._upper is not None:
                self._upper.datagram_received(plaintext)
            return
        plaintexts = session.receive(datagram) if plaintext is None else []
        if plaintexts:
            # Only what the peer's keys have proven: anyone can send from its address.
            self.last_received_at = now
        self._send_waiting(session)
        self.deliver(plaintexts)
        if session.state is SessionState.CLOSED:
            self.end("closed_by_peer" if session.closed_by_peer else "failed")

    def attach(self, upper: Upper) -> None:
        """Name who takes the plaintexts."""
        self._upper = upper

    def deliver(self, plaintexts: list[bytes]) -> None:
        """Hand records up as long as the association lives."""
        for plaintext in plaintexts:
            if self._session is None or self._upper is None:
                return
            self._upper.datagram_received(plaintext)

    def farewell(self, reason: str) -> None:
        """Say close_notify and end for `reason`."""
        session = self._session
        if session is not None:
            session.close()
            self._send_waiting(session)
            self.end(reason)

    def _send_waiting(self, session: Session) -> None:
        for datagram in session.datagrams_to_send():
            self._driver.send(datagram, self._flow)

    def end(self, reason: str) -> None:
        """Free everything and tell the upper; nothing the second time."""
        session, self._session = self._session, None
        if session is None:
            return
        session.release()
        self._driver.forget(self._flow, self)
        upper, self._upper = self._upper, None
        if upper is not None:
            upper.association_lost(reason)
