"""One faithful LwM2M device in need of bootstrap: DTLS, Bootstrap-Request, what the server writes, its own judgement.

LwM2M Core 1.2 6.1 on RFC 7252 and RFC 6347 with their default timers. CoAP is aiocoap's.
"""

import asyncio
import random
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiocoap import Message, error
from aiocoap.numbers import codes
from cryptography import x509

from simulators import checks
from simulators.association import Association, AssociationLost
from simulators.brief import Behaviour, Patience, Report, Server
from simulators.checks import Identity
from simulators.dtls import Credential, DtlsContext, X509Credential
from simulators.est import EnrolmentFailed, EstClient, KeyPair, common_name
from simulators.folder import folder_of, leave
from simulators.site import BootstrapSite
from simulators.tree import MODE, MODE_CERTIFICATE, MODE_EST, MODE_PSK, ObjectTree

# How real clients come back after a failure: the first time after `Patience.first_back_off`, then after twice as long
# each time, at most this.
LONGEST_BACK_OFF = 20.0
# RFC 7252 5.10.5: Max-Age of a response that carries none.
DEFAULT_MAX_AGE = 60


class AttemptFailed(Exception):
    """An attempt that did not end in a usable account; `retry_after` seconds if the server named them."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Device:
    """One device, from its factory until it holds an account. `async with Device(...) as device: await
    device.bootstrap()`.

    With `trust` the chain it gets must end at one of these certificates. `jitter` gives numbers of [0, 1) for
    its back-off.
    """

    def __init__(
        self,
        endpoint: str,
        credential: Credential,
        server: Server,
        *,
        behaviour: Behaviour | None = None,
        patience: Patience | None = None,
        trust: tuple[x509.Certificate, ...] = (),
        jitter: random.Random | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.credential = credential
        self.server = server
        self.behaviour = behaviour or Behaviour()
        self.patience = patience or Patience()
        self.trust = trust
        self.jitter = jitter or random.Random()
        self.tree = ObjectTree(
            uri=server.uri,
            mode=MODE_CERTIFICATE if isinstance(credential, X509Credential) else MODE_PSK,
            account=self.behaviour.account,
            pem=self.behaviour.pem,
            est=self.behaviour.est != "refuses",
            refuses=self.behaviour.refuses,
        )
        self.identities: tuple[Identity, ...] = ()
        self.ca_certificates: tuple[x509.Certificate, ...] = ()
        # Kept over all attempts: the same CSR gets the same certificate.
        self.pair: KeyPair | None = None
        # What the newest Finish carried besides its path.
        self.finish_query: tuple[str, ...] = ()
        self.transcript: list[str] = []
        self._shared = DtlsContext(
            credential, server_name=server.host, server_anchors=server.anchors, mtu=self.behaviour.mtu
        )
        self._socket: socket.socket | None = None
        self._association: Association | None = None
        self._est: EstClient | None = None
        self._began = time.monotonic()

    async def __aenter__(self) -> "Device":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def kind(self) -> str:
        """`x509`, `psk`, or `est` for one with a factory certificate and a key of its own."""
        if self.behaviour.est == "expects":
            return "est"
        return "x509" if isinstance(self.credential, X509Credential) else "psk"

    # -- life ---------------------------------------------------------------------------------------------

    async def bootstrap(self) -> Report:
        """Try until it works or the attempts are used up; never raises for what a server or a network does.

        All attempts come from the same local port. After a success the association stays open: `linger`
        answers a repeated Finish, `close` ends it.
        """
        self._began = time.monotonic()
        reason: str | None = None
        attempt = 0
        back_off = self.patience.first_back_off
        for attempt in range(1, self.patience.attempts + 1):
            before = self.tree.copy()
            self.note(f"== attempt {attempt} of {self.patience.attempts}, {self.kind} to {self.server.uri}")
            try:
                await self._attempt()
            except (AttemptFailed, AssociationLost) as failure:
                reason = str(failure)
                self.note(f"== failed: {reason}")
                # LwM2M Core 1.2 6.1.7: without Finish a device has what it had.
                self.tree = before
                self.identities = ()
                await self._disconnect()
                if attempt < self.patience.attempts:
                    wait = getattr(failure, "retry_after", None)
                    if wait is None:
                        wait, back_off = back_off, min(back_off * 2, LONGEST_BACK_OFF)
                    # Up to a quarter more, so that a fleet does not come back as one.
                    await asyncio.sleep(wait * (1 + self.jitter.random() / 4))
            else:
                reason = None
                self.note("== bootstrapped")
                break
        first = self.identities[0].leaf if self.identities else None
        return Report(
            endpoint=self.endpoint,
            credential=self.kind,
            ok=reason is None,
            reason=reason,
            issuer=first.issuer.rfc4514_string() if first else None,
            serial=f"{first.serial_number:x}" if first else None,
            ms=round((time.monotonic() - self._began) * 1000),
            attempts=attempt,
        )

    @property
    def is_lost(self) -> bool:
        """Whether the association of the last attempt is gone."""
        return self._association is None or self._association.lost.done()

    async def linger(self, seconds: float = 0.0) -> None:
        """Stay until the server can have our answer to Finish.

        A CoAP ping tells on a path that keeps the order of datagrams and loses none. On others stay `seconds`
        after the last datagram, or until the server closes the association.
        """
        association = self._association
        if association is None:
            return
        await association.ping(timeout=6.0)
        loop = asyncio.get_running_loop()
        while (left := association.last_received + seconds - loop.time()) > 0:
            done, _ = await asyncio.wait({association.lost}, timeout=left)
            if done:
                return

    def lose_power(self) -> None:
        """Be gone without a word; an attempt under way fails, the next one comes from the same port."""
        if self._association is not None:
            self._association.vanish()

    async def close(self) -> None:
        """End the association and give the port back; safe to call again."""
        await self._disconnect()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _disconnect(self) -> None:
        if self._association is not None:
            association, self._association, self._est = self._association, None, None
            await association.close()

    # -- one attempt --------------------------------------------------------------------------------------

    async def connect(self) -> EstClient:
        """A new association, and EST on it without any bootstrap. Raises AssociationLost."""
        await self._connect()
        return self.est

    @property
    def est(self) -> EstClient:
        """EST on the association that is up."""
        if self._est is None:
            raise AssociationLost("there is no association")
        return self._est

    async def _connect(self) -> tuple[Association, BootstrapSite, Any]:
        await self._disconnect()
        if self._socket is None:
            self._socket = await connected_socket(self.server.address)
        association = Association(
            self._socket,
            self._shared,
            hostinfo=self.server.uri.removeprefix("coaps://"),
            parameters=self.behaviour.coap,
            silent=self._silent,
            note=self.note,
        )
        self._association = association
        suite = await association.handshake(self.patience.handshake)
        self.note(f"== association up, {suite}")
        site = BootstrapSite(
            self.tree,
            version=self.behaviour.version,
            content_formats=self.behaviour.content_formats,
            block_exponent=self.behaviour.coap.block_exponent,
            max_payload=self.behaviour.max_payload,
            one_token=self.behaviour.one_token,
            finish_delay=self.behaviour.finish_delay,
            note=self.note,
        )
        context = await association.open_coap(site)
        tuning = self.behaviour.coap.tuning()
        self._est = EstClient(context, association.remote, tuning, patience=self.patience.server, note=self.note)
        return association, site, context

    async def _attempt(self) -> None:
        association, site, context = await self._connect()
        request = asyncio.ensure_future(self._bootstrap_request(context, association))
        finished = asyncio.ensure_future(site.finished.wait())
        try:
            await self._operations(association, site, request, finished)
        finally:
            for task in (request, finished):
                task.cancel()
            await asyncio.gather(request, finished, return_exceptions=True)
        self._judge(await self._enroll(association))

    async def _operations(
        self,
        association: Association,
        site: BootstrapSite,
        request: asyncio.Future[None],
        finished: asyncio.Future[Any],
    ) -> None:
        """Wait for Finish; each word of the server renews the patience."""
        loop = asyncio.get_running_loop()
        waiting: set[asyncio.Future[Any]] = {request, finished, association.lost}
        while (left := site.last_operation + self.patience.server - loop.time()) > 0:
            done, _ = await asyncio.wait(waiting, timeout=left, return_when="FIRST_COMPLETED")
            if finished in done:
                self.finish_query = site.finish_query
                return
            if association.lost in done:
                raise AssociationLost(association.lost.result() + _so_far(site))
            if request in done:
                waiting.discard(request)
                request.result()
                site.last_operation = loop.time()
        raise AttemptFailed(f"the server said nothing for {self.patience.server:g} s{_so_far(site)}")

    async def _bootstrap_request(self, context: Any, association: Association) -> None:
        query = [f"ep={self.endpoint}"] if self.behaviour.send_endpoint else []
        query += self.behaviour.query
        if self.behaviour.pct is not None:
            query.append(f"pct={self.behaviour.pct}")
        message = Message(
            code=codes.POST,
            uri_path=("bs",),
            uri_query=tuple(query),
            transport_tuning=self.behaviour.coap.tuning(),
        )
        message.remote = association.remote
        self.note(f"-> POST /bs?{'&'.join(query)}")
        try:
            response = await context.request(message, handle_blockwise=False).response
        except error.NetworkError as failure:
            # The association's own words are better, when it has any.
            if association.lost.done():
                raise AssociationLost(association.lost.result()) from failure
            raise AttemptFailed(f"no answer to the Bootstrap-Request: {failure}") from failure
        except error.Error as failure:
            raise AttemptFailed(f"the Bootstrap-Request was reset: {failure!r}") from failure
        code = response.code.dotted
        self.note(f"<- {code} to POST /bs, {len(response.payload)} bytes")
        if response.code == codes.CHANGED:
            return
        text = response.payload.decode(errors="replace")
        reason = f"Bootstrap-Request answered {code}" + (f" ({text})" if text else "")
        if response.code == codes.SERVICE_UNAVAILABLE:
            max_age = DEFAULT_MAX_AGE if response.opt.max_age is None else response.opt.max_age
            raise AttemptFailed(f"{reason}, Max-Age {max_age}", retry_after=max_age)
        raise AttemptFailed(reason)

    def _silent(self, request: Message) -> bool:
        if self.behaviour.discover or request.code != codes.GET:
            return False
        self.note(f"<- GET /{'/'.join(request.opt.uri_path)}, which is not answered")
        return True

    async def _enroll(self, association: Association) -> list[Identity]:
        """Mode 4: certificates for keys of our own, on the association of the bootstrap (LwM2M Transport 1.2 5.2.4)."""
        accounts = [number for number, held in self.tree.server_accounts().items() if held.get(MODE) == MODE_EST]
        if not accounts or self.behaviour.est == "later":
            if self.behaviour.est == "expects":
                raise AttemptFailed('the profile wrote no account of security mode 4: `mode = "est"` is missing in it')
            return []
        if self.pair is None:
            self.pair = KeyPair.make(common_name(self.endpoint))
        try:
            self.ca_certificates = await self.est.ca_certificates()
            chain = await self.est.enroll(self.pair.csr)
        except EnrolmentFailed as failure:
            if association.lost.done():
                raise AssociationLost(association.lost.result()) from failure
            raise AttemptFailed(str(failure), retry_after=failure.retry_after) from failure
        if chain[0].public_key() != self.pair.key.public_key():
            raise AttemptFailed("the first certificate of the EST answer is not for this device's key")
        return [Identity(instance=number, chain=chain, key=self.pair.key) for number in accounts]

    def _judge(self, enrolled: list[Identity]) -> None:
        """Our own look at what we hold; raises AttemptFailed with everything that is wrong."""
        accounts = self.tree.server_accounts()
        wrong: list[str] = []
        if self.tree.bootstrap_accounts() != [self.behaviour.account]:
            wrong.append(f"the bootstrap account at /0/{self.behaviour.account} was overwritten")
        identities = [
            checks.read_identity(number, held)
            for number, held in accounts.items()
            if held.get(MODE) == MODE_CERTIFICATE
        ] + enrolled
        now = datetime.now(UTC)
        for identity in identities:
            for problem in checks.problems(identity, endpoint=self.endpoint, now=now, trust=self.trust):
                wrong.append(f"/0/{identity.instance}: {problem}")
        if wrong:
            raise AttemptFailed("; ".join(wrong))
        self.identities = tuple(identities)

    # -- what stays ---------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Add a line to the transcript."""
        self.transcript.append(f"{time.monotonic() - self._began:9.3f} {text}")

    def folder(self, out: Path) -> Path:
        """Where `save` writes."""
        return folder_of(self.endpoint, out)

    def save(self, out: Path) -> None:
        """Leave its transcript, what was written, and its credentials; those of a second account by their instance."""
        credentials = {
            "" if position == 0 else str(identity.instance): identity
            for position, identity in enumerate(self.identities)
        }
        leave(self.folder(out), self.transcript, self.tree.as_json(), credentials)


def _so_far(site: BootstrapSite) -> str:
    if site.inconsistency is not None:
        return f" after Finish was answered 4.06: {site.inconsistency}"
    return f" after {site.operations} operations, none of them a Finish"


async def connected_socket(address: tuple[str, int]) -> socket.socket:
    """A UDP socket that sends to and hears `address` alone. Raises AssociationLost."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(*address, type=socket.SOCK_DGRAM)
    except socket.gaierror as failure:
        raise AssociationLost(f"{address[0]} is not known: {failure.strerror}") from failure
    family, kind, protocol, _, sockaddr = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.connect(sockaddr)
    except OSError as failure:
        sock.close()
        raise AssociationLost(f"{address[0]}:{address[1]} cannot be reached: {failure.strerror}") from failure
    return sock
