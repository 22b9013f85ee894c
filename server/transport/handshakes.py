"""The handshakes of one socket: of proven addresses, bounded in number and time, keys fetched beforehand."""

import asyncio
from collections.abc import Callable, Iterator
from math import inf
from typing import Protocol

from server.transport.counters import Counters
from server.transport.engine import (
    Engine,
    PreSharedKey,
    PskLookup,
    Refusal,
    RefusalReason,
    Session,
    SessionState,
    StoreUnavailable,
    TransportLimits,
    ended_by_alert,
    printable,
)
from server.transport.preference import Preference
from server.transport.sockets import Flow, address_text, source

# Seconds after which an alert in the clear is believed, if nothing of its handshake comes any more: it may be a late
# one of an earlier attempt, or anybody's. More than a slow device needs for its signature.
ALERT_PATIENCE = 5.0
# Attempts of one address, replaced by newer ones, whose late ClientHellos are known.
MOST_REPLACED = 4


class KeyExchangeReader(Protocol):
    """Learns from a client's handshake, as it passes by, which pre-shared key will be needed."""

    saw_protected: bool
    """Whether the peer sent something under the new keys: it believes the handshake is at its end."""
    excessive: bool
    """Whether the peer has begun more than any handshake needs, which the engine would keep."""
    alert: int | None
    """The alert that ended the handshake, if it is the peer's: nothing proves it, and nothing came after it."""
    kept: bytes
    """What of the newest `feed` is for the engine; empty when nothing of it belongs to this handshake."""

    def feed(self, data: bytes) -> bytes | None:
        """Take what the client sent; the PSK identity when this completes it, else None."""


class Handshake:
    """One handshake under way; plain slots."""

    __slots__ = (
        "alerted_at",
        "attempt",
        "due",
        "flow",
        "identity",
        "keys_first",
        "looking_up",
        "offered",
        "parked",
        "read",
        "reader",
        "replaced",
        "session",
        "started_at",
    )

    def __init__(
        self,
        flow: Flow,
        session: Session,
        reader: KeyExchangeReader,
        attempt: bytes,
        now: float,
        replaced: tuple[bytes, ...] = (),
        *,
        keys_first: bool = False,
    ) -> None:
        self.flow = flow
        self.session = session
        # `ClientHello.attempt`, and those of the handshakes of this address that it took the place of, newest first.
        self.attempt = attempt
        self.replaced = replaced
        self.reader = reader
        self.started_at = now
        # Whether its peer was asked for a pre-shared key rather than a certificate (`Preference`).
        self.keys_first = keys_first
        # When `reader.alert` came; infinite without one.
        self.alerted_at = inf
        # When the session's timer is due.
        self.due = now
        # Whether a key, or that there is none, was given to the session: once, as it names one identity.
        self.offered = False
        # The identity whose key is fetched, the task that does it, and what arrived since, in order.
        self.identity: bytes | None = None
        self.looking_up: asyncio.Task[None] | None = None
        self.parked: list[bytes] = []
        # The first of them when they are taken up: the reader has had it.
        self.read: bytes | None = None


class Driver(Protocol):
    """The socket under the handshakes."""

    engine: Engine
    counters: Counters

    def send(self, datagram: bytes, flow: Flow) -> None:
        """Send to the peer of `flow`."""

    def route(self, datagram: bytes, flow: Flow) -> None:
        """Take a datagram that was parked as if it came now."""

    def handshake_completed(self, handshake: Handshake, plaintexts: list[bytes], now: float) -> None:
        """The handshake is complete and no longer listed; its session is the driver's from here on."""

    def handshake_failed(self, flow: Flow) -> None:
        """The handshake of `flow` is over and no longer listed."""

    def refused(self, refusal: Refusal) -> None:
        """Tell who was not admitted."""

    def report(self, message: str, error: Exception) -> None:
        """Tell of a fault of ours."""


class Handshakes:
    """All handshakes of one socket.

    `reader` makes what reads a key exchange on this transport; on a `reliable` one a client sends nothing twice.
    """

    __slots__ = (
        "_by_source",
        "_driver",
        "_limits",
        "_loop",
        "_preference",
        "_psk_lookup",
        "_reader",
        "_reliable",
        "by_flow",
    )

    def __init__(
        self,
        driver: Driver,
        *,
        psk_lookup: PskLookup,
        limits: TransportLimits,
        reader: Callable[[], KeyExchangeReader],
        reliable: bool,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._driver = driver
        self._reader = reader
        self._reliable = reliable
        self._psk_lookup = psk_lookup
        self._limits = limits
        self._loop = loop
        # For others to look into: the socket asks it at each datagram.
        self.by_flow: dict[Flow, Handshake] = {}
        self._by_source: dict[str, int] = {}
        self._preference = Preference()

    def __len__(self) -> int:
        return len(self.by_flow)

    def __iter__(self) -> Iterator[Handshake]:
        """A copy: looking at one may end it."""
        return iter(list(self.by_flow.values()))

    def get(self, flow: Flow) -> Handshake | None:
        """The handshake of `flow`."""
        return self.by_flow.get(flow)

    def begin(
        self,
        client_hello: bytes,
        attempt: bytes,
        flow: Flow,
        now: float,
        *,
        established: int,
        replaced: tuple[bytes, ...] = (),
    ) -> bool:
        """Begin one for a peer whose address is proven; False, and no state, when a limit forbids it.

        Handshakes under way win over new ones (design 9); `established` counts the associations of the
        socket. `client_hello` and its `attempt` are what proved the address of a datagram, empty on a connection;
        `replaced` is what `give_way` gave.
        """
        counters, limits = self._driver.counters, self._limits
        whom = source(flow[0])
        if len(self.by_flow) >= limits.max_handshakes:
            counters.dropped_handshakes_full += 1
        elif len(self.by_flow) + established >= limits.max_associations:
            counters.dropped_associations_full += 1
        elif self._by_source.get(whom, 0) >= limits.per_source:
            counters.dropped_source_full += 1
        else:
            counters.started += 1
            keys_first = self._preference.keys_first(whom, now)
            session = self._driver.engine.accept(client_hello, keys_first=keys_first)
            handshake = Handshake(flow, session, self._reader(), attempt, now, replaced, keys_first=keys_first)
            self.by_flow[flow] = handshake
            self._by_source[whom] = self._by_source.get(whom, 0) + 1
            self._follow(handshake, [], now)
            return True
        return False

    def receive(self, handshake: Handshake, datagram: bytes, now: float) -> None:
        """Give the handshake a datagram, or park it behind the look-up of the key it needs."""
        if handshake.looking_up is not None:
            if len(handshake.parked) < self._limits.parked:
                handshake.parked.append(datagram)
            else:
                self._driver.counters.dropped_parked_full += 1
            return
        reader = handshake.reader
        identity: bytes | None = None
        if datagram is not handshake.read:
            identity = reader.feed(datagram)
            if reader.excessive:
                self.fail(handshake, RefusalReason.HANDSHAKE_FAILED, "the handshake has too many bytes")
                return
            if reader.alert is None:
                handshake.alerted_at = inf
            elif handshake.alerted_at == inf:
                handshake.alerted_at = now
            datagram = reader.kept
            if not datagram:
                if reader.alert is None:
                    self._driver.counters.dropped_stray += 1
                return
        if identity is not None and not handshake.offered:
            if b"\0" in identity:
                # OpenSSL reads it only up to there (docs/transport.md 9): none of ours, and not worth a look-up.
                self._offer(handshake, identity, None)
            else:
                self._driver.counters.look_ups += 1
                handshake.identity = identity
                handshake.parked = [datagram]
                handshake.looking_up = self._loop.create_task(self._look_up(handshake, identity))
                return
        self._follow(handshake, handshake.session.receive(datagram), now)

    def handle_timer(self, handshake: Handshake, now: float) -> None:
        """End the handshake at its deadline or by its alert, or repeat its flight when that is due."""
        overdue = now - handshake.started_at >= self._limits.handshake_deadline
        if overdue or now - handshake.alerted_at >= ALERT_PATIENCE:
            self._end(handshake)
        elif handshake.due <= now and handshake.looking_up is None:
            handshake.session.handle_timer()
            self._follow(handshake, [], now)

    def give_way(self, handshake: Handshake) -> tuple[bytes, ...]:
        """End it, as its device has begun anew; what `begin` of the new one is to know."""
        if handshake.reader.alert is not None:
            self._end(handshake)
        else:
            self._driver.counters.failed += 1
            self._learn(handshake, None)
            self.discard(handshake)
        return handshake.attempt, *handshake.replaced[: MOST_REPLACED - 1]

    def _end(self, handshake: Handshake) -> None:
        """End what does not go on."""
        alert = handshake.reader.alert
        if alert is not None:
            self.fail(handshake, RefusalReason.PEER_ALERT, ended_by_alert(alert))
        else:
            self.fail(handshake, self._why_late(handshake))

    @staticmethod
    def _why_late(handshake: Handshake) -> RefusalReason:
        if handshake.looking_up is not None:
            return RefusalReason.STORE_UNAVAILABLE
        # docs/transport.md 12: a wrong key makes no error, each side drops the other's Finished.
        if handshake.session.credential == "psk" and handshake.reader.saw_protected:
            return RefusalReason.WRONG_KEY
        return RefusalReason.DEADLINE

    def discard(self, handshake: Handshake) -> None:
        """Forget it without a word to anyone."""
        self._unlist(handshake)
        if handshake.looking_up is not None:
            handshake.looking_up.cancel()
        handshake.session.release()

    async def _look_up(self, handshake: Handshake, identity: bytes) -> None:
        """Fetch the key and go on with what was parked; a store that is away means silence (design 10)."""
        key: PreSharedKey | None = None
        away = False
        try:
            key = await self._psk_lookup(identity)
        except StoreUnavailable:
            away = True
        except Exception as error:
            # Whatever went wrong, it must not look like an identity nobody knows (docs/transport.md 8).
            away = True
            self._driver.report("a pre-shared key could not be looked up", error)
        handshake.looking_up = None
        if self.by_flow.get(handshake.flow) is not handshake:
            return
        parked, handshake.parked = handshake.parked, []
        if away and self._reliable:
            # What was parked is lost and comes only once: the device has to connect anew.
            self.fail(handshake, RefusalReason.STORE_UNAVAILABLE)
            return
        if away:
            # The handshake stays: the client repeats its flight, and the next look-up may succeed.
            self._refuse(handshake, RefusalReason.STORE_UNAVAILABLE)
            return
        self._offer(handshake, identity, key)
        handshake.read = parked[0]
        for datagram in parked:
            self._driver.route(datagram, handshake.flow)

    def _offer(self, handshake: Handshake, identity: bytes, key: PreSharedKey | None) -> None:
        handshake.offered = True
        handshake.session.offer_psk(identity, key)

    def _follow(self, handshake: Handshake, plaintexts: list[bytes], now: float) -> None:
        """Send what the session wrote and go where it went."""
        session = handshake.session
        for datagram in session.datagrams_to_send():
            self._driver.send(datagram, handshake.flow)
        match session.state:
            case SessionState.ESTABLISHED:
                self._unlist(handshake)
                self._driver.counters.completed += 1
                if handshake.keys_first and session.credential == "psk":
                    # Remembered as long as it comes: else it would fail once a week.
                    self._preference.had_no_certificate(source(handshake.flow[0]), now)
                self._driver.handshake_completed(handshake, plaintexts, now)
            case SessionState.CLOSED:
                self.fail(handshake, session.refusal or RefusalReason.HANDSHAKE_FAILED)
            case SessionState.HANDSHAKING:
                wait = session.next_timer()
                handshake.due = now + (self._limits.handshake_deadline if wait is None else wait)

    def fail(self, handshake: Handshake, reason: RefusalReason, detail: str = "") -> None:
        """End it for `reason` and tell who was not admitted; `detail` where the session has no word of its own."""
        self._driver.counters.failed += 1
        self._learn(handshake, reason)
        self._refuse(handshake, reason, detail)
        self.discard(handshake)
        self._driver.handshake_failed(handshake.flow)

    def _learn(self, handshake: Handshake, reason: RefusalReason | None) -> None:
        """What the next handshake of this peer is to ask for, after this one came to nothing."""
        whom = source(handshake.flow[0])
        if reason is RefusalReason.NO_CERTIFICATE:
            self._preference.had_no_certificate(whom, self._loop.time())
        elif handshake.keys_first and handshake.identity is None and not handshake.offered:
            self._preference.named_no_key(whom)

    def _refuse(self, handshake: Handshake, reason: RefusalReason, detail: str = "") -> None:
        session = handshake.session
        # While its key is not there yet the session knows nothing of the identity.
        awaited = None if handshake.offered else handshake.identity
        self._driver.counters.refused[reason] += 1
        self._driver.refused(
            Refusal(
                address=address_text(handshake.flow[0]),
                reason=reason,
                credential=session.credential if awaited is None else "psk",
                identity=session.identity if awaited is None else printable(awaited),
                detail=session.detail or detail,
            )
        )

    def _unlist(self, handshake: Handshake) -> None:
        del self.by_flow[handshake.flow]
        whom = source(handshake.flow[0])
        left = self._by_source[whom] - 1
        if left:
            self._by_source[whom] = left
        else:
            del self._by_source[whom]
