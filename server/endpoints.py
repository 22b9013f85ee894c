"""The sockets at which one worker takes devices: an endpoint for each, all with the same engine and limits."""

import os
import socket
from collections.abc import Callable
from datetime import datetime
from functools import partial

from server.assignment import Assignment
from server.coap.endpoint import CoapEndpoint
from server.farewells import Farewells
from server.knowledge import Knowledge
from server.metrics import Metrics
from server.seen import Seen
from server.store.embedded_ca import ServerCredential
from server.transport.cookie import CookieJar
from server.transport.endpoint import Endpoint
from server.transport.engine import Refusal, TransportLimits
from server.transport.openssl import OpenSslEngine
from server.transport.tls import TlsEndpoint
from server.transport.udp import UdpEndpoint


class Endpoints:
    """Every socket of a worker, DTLS and TLS; a conversation is the same on each."""

    def __init__(
        self,
        assignment: Assignment,
        server: ServerCredential,
        *,
        knowledge: Knowledge,
        coap: CoapEndpoint,
        seen: Seen,
        farewells: Farewells,
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._server = server
        self._mtu = assignment.config.limits.mtu
        self._knowledge = knowledge
        self._seen = seen
        self._farewells = farewells
        self._now = now
        self._metrics = metrics
        limits = assignment.config.limits
        each = TransportLimits(
            max_handshakes=limits.max_handshakes,
            max_associations=limits.max_associations,
            per_source=limits.max_handshakes_per_source,
            handshake_deadline=limits.handshake_seconds,
            idle_deadline=limits.idle_seconds,
            mtu=limits.mtu,
        )
        self._udp: list[UdpEndpoint] = []
        self._tls: list[TlsEndpoint] = []
        if assignment.sockets:
            engine = self._engine(stream=False)
            cookie = CookieJar(assignment.cookie_secret)
            self._udp = [
                UdpEndpoint(
                    socket.socket(fileno=os.dup(number)),
                    engine,
                    psk_lookup=knowledge.psk_lookup,
                    on_established=coap.established,
                    on_refused=self._refused,
                    limits=each,
                    cookie=cookie,
                    waited=metrics.queue_seconds.observe if assignment.config.server.measure_queue else None,
                )
                for number in assignment.sockets
            ]
        if assignment.listeners:
            engine = self._engine(stream=True)
            self._tls = [
                TlsEndpoint(
                    socket.socket(fileno=os.dup(number)),
                    engine,
                    psk_lookup=knowledge.psk_lookup,
                    on_established=coap.established,
                    on_refused=self._refused,
                    limits=each,
                )
                for number in assignment.listeners
            ]

    def start(self) -> None:
        """Take devices."""
        for endpoint in self._all:
            endpoint.on_full = self._farewells.relieve
            endpoint.start()

    def show(self, server: ServerCredential) -> None:
        """Show new devices this certificate: a Context is rebuilt only when it has changed (design 3)."""
        if server.certificate == self._server.certificate:
            return
        self._server = server
        for udp in self._udp:
            udp.engine = self._engine(stream=False)
        for tls in self._tls:
            tls.engine = self._engine(stream=True)

    @property
    def handshaking(self) -> int:
        """Handshakes under way."""
        return sum(endpoint.handshaking for endpoint in self._all)

    def stop_accepting(self) -> None:
        """Begin no new handshake; those under way and all associations go on."""
        for endpoint in self._all:
            endpoint.stop_accepting()

    def close(self) -> None:
        """Close every association and the sockets."""
        for endpoint in self._all:
            endpoint.close()

    def count(self) -> None:
        """Bring the metrics up to date."""
        metrics = self._metrics
        for udp in self._udp:
            udp.counters.add_to(metrics)
        for tls in self._tls:
            tls.counters.add_connections_to(metrics)
        metrics.associations.value = sum(endpoint.established for endpoint in self._udp)
        metrics.handshaking.value = sum(endpoint.handshaking for endpoint in self._udp)
        metrics.tls_associations.value = sum(endpoint.established for endpoint in self._tls)
        metrics.tls_handshaking.value = sum(endpoint.handshaking for endpoint in self._tls)

    @property
    def _all(self) -> list[Endpoint]:
        return [*self._udp, *self._tls]

    def _refused(self, refusal: Refusal) -> None:
        self._metrics.refusals.inc(refusal.reason.value)
        self._seen.refused(refusal)

    def _engine(self, *, stream: bool) -> OpenSslEngine:
        return OpenSslEngine(
            certificate_chain_pem=self._server.chain_pem,
            private_key=self._server.private_key,
            trust=lambda: self._knowledge.trust,
            now=self._now,
            judged=partial(self._metrics.checks.inc, "device"),
            mtu=self._mtu,
            stream=stream,
        )
