"""One Izuma client in need of bootstrap: session, Bootstrap-Request, what the server writes, Finish, and then EST.

With mode 4 the certificate is asked for after the Finish, on the same session, which the client closes when it has it.
"""

import asyncio
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiocoap import Message
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from simulators import checks
from simulators.association import CoapParameters
from simulators.brief import Patience, Report, Server
from simulators.checks import Identity
from simulators.device import AttemptFailed
from simulators.dtls import DtlsContext, X509Credential
from simulators.folder import folder_of, leave
from simulators.izuma import chain as chains
from simulators.izuma.account import Account, Finished
from simulators.izuma.conversation import Conversation, NoAnswer
from simulators.izuma.enrolment import (
    COMPLIANT,
    DEFAULT,
    LWM2M,
    Credential,
    EnrolmentFailed,
    enrol,
    first_request,
    subject,
)
from simulators.izuma.link import SUITE, Link, LinkLost, Transport
from simulators.izuma.site import Site

CLIENT_VERSION = "4.13.2"
# Seconds: how the client comes back after a failed bootstrap, doubled each time up to the longest.
FIRST_WAIT = (20.0, 100.0)
LONGEST_WAIT = 6 * 3600.0
# How far off the time may be that a server tells, in seconds.
LARGEST_ERROR = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Izuma:
    """What kind of client it is.

    `account_id` and `device_id` go with its Bootstrap-Request as `aid` and `iep`; it has none of the second before
    its first bootstrap. With `account_stored` it does not need `aid` in the LwM2M server's URI. `est` False is a
    client built without enrolment, `compliant` one for standard LwM2M (LWM2M_COMPLIANT). `certificates` are names of
    further ones it asks for. `slot_time` is how long a write occupies its one slot, in which a second write is lost.
    `first_wait` is the range of its wait after a failure.
    """

    transport: Transport = "tcp"
    account_id: str = ""
    device_id: str = ""
    account_stored: bool = False
    est: bool = True
    compliant: bool = False
    certificates: tuple[str, ...] = ()
    account: int = 1
    slot_time: float = 0.01
    first_wait: tuple[float, float] = FIRST_WAIT
    mtu: int = 1200
    coap: CoapParameters = field(default_factory=CoapParameters)


class IzumaDevice:
    """One client, from its factory until it holds what it needs for the LwM2M server.

    With `trust` the chain it gets must end at one of these certificates.
    """

    def __init__(
        self,
        endpoint: str,
        credential: X509Credential,
        server: Server,
        *,
        behaviour: Izuma | None = None,
        patience: Patience | None = None,
        trust: tuple[x509.Certificate, ...] = (),
        jitter: random.Random | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.server = server
        self.behaviour = behaviour or Izuma()
        self.patience = patience or Patience()
        self.trust = trust
        self.jitter = jitter or random.Random()
        self.account = self._factory_account()
        # By certificate name; the one for the LwM2M server is LWM2M.
        self.credentials: dict[str, Credential] = {}
        self.device_id = self.behaviour.device_id
        self.transcript: list[str] = []
        # It has none of its own that outlives a loss of power: a new one is in 1970, until a server tells the time.
        self.clock = 0
        self._shared = DtlsContext(
            credential,
            server_name=server.host,
            server_anchors=server.anchors,
            mtu=self.behaviour.mtu,
            suites=SUITE,
            stream=self.behaviour.transport == "tcp",
            clock=None if self.behaviour.compliant else lambda: self.clock,
        )
        self._link: Link | None = None
        self._site: Site | None = None
        self._began = time.monotonic()

    async def __aenter__(self) -> "IzumaDevice":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def kind(self) -> str:
        """`izuma-udp` or `izuma-tcp`."""
        return f"izuma-{self.behaviour.transport}"

    # -- life ---------------------------------------------------------------------------------------------

    async def bootstrap(self) -> Report:
        """Try until it works or the attempts are used up; never raises for what a server or a network does."""
        self._began = time.monotonic()
        reason: str | None = None
        attempt = 0
        wait = self.jitter.uniform(*self.behaviour.first_wait)
        for attempt in range(1, self.patience.attempts + 1):
            before = self.account.copy()
            self.note(f"== attempt {attempt} of {self.patience.attempts}, {self.kind} to {self.server.uri}")
            try:
                await self._attempt()
            except (AttemptFailed, LinkLost, NoAnswer, EnrolmentFailed) as failure:
                reason = str(failure)
                self.note(f"== failed: {reason}")
                self.account = before
                # Not taken back: the key that it made is in its store.
                before.key_left = before.key_left or isinstance(failure, EnrolmentFailed)
                await self.close()
                if attempt < self.patience.attempts:
                    await asyncio.sleep(wait)
                    wait = min(2 * wait, LONGEST_WAIT)
            else:
                reason = None
                self.note("== bootstrapped")
                break
        leaf = self.credentials[LWM2M].leaf if reason is None else None
        return Report(
            endpoint=self.endpoint,
            credential=self.kind,
            ok=reason is None,
            reason=reason,
            issuer=leaf.issuer.rfc4514_string() if leaf else None,
            serial=f"{leaf.serial_number:x}" if leaf else None,
            ms=round((time.monotonic() - self._began) * 1000),
            attempts=attempt,
        )

    async def linger(self, seconds: float = 0.0) -> None:
        """Nothing to stay for: the client has closed its session, knowing that its last word was acknowledged."""

    def lose_power(self) -> None:
        """Be gone without a word; an attempt under way fails."""
        if self._link is not None:
            self._link.vanish()

    async def close(self) -> None:
        """End the session; safe to call again."""
        site, self._site = self._site, None
        if site is not None:
            site.close()
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    # -- one attempt --------------------------------------------------------------------------------------

    async def _attempt(self) -> None:
        waiting: list[bytes] = []
        link = self._link = await Link.opened(
            self._shared, self.server.address, received=waiting.append, patience=self.patience.handshake
        )
        self.note(f"== session up, {link.suite}")
        self._set_clock(link.server_time)
        self.account.begin()
        site = self._site = Site(self.account, slot_time=self.behaviour.slot_time, note=self.note)
        conversation = Conversation(
            send=link.send,
            lost=link.lost,
            serve=site.serve,
            note=self.note,
            parameters=self.behaviour.coap,
            jitter=self.jitter,
        )
        link.hand_to(conversation.received)
        for early in waiting:
            conversation.received(early)
        await self._bootstrap_request(conversation)
        failure = await self._operations(site, link)
        if failure is not None:
            raise AttemptFailed(failure)
        held = await self._enrolments(conversation)
        self._judge(held[LWM2M])
        self.credentials = held
        await self.close()

    def _set_clock(self, told: int) -> None:
        """Builds for standard LwM2M look at no dates. Raises AttemptFailed when the server told no time."""
        if self.behaviour.compliant:
            return
        if abs(told - time.time()) > LARGEST_ERROR:
            raise AttemptFailed(f"the time of the ServerHello is {told}: by it no certificate would be valid")
        self.clock = told

    def _factory_account(self) -> Account:
        behaviour = self.behaviour
        return Account(
            uri=self.server.uri,
            bootstrap=behaviour.account,
            account_id=behaviour.account_id if behaviour.account_stored else "",
            est=behaviour.est,
            compliant=behaviour.compliant,
        )

    async def _bootstrap_request(self, conversation: Conversation) -> None:
        query = [f"ep={self.endpoint}"]
        if self.behaviour.account_id:
            query.append(f"aid={self.behaviour.account_id}")
        if self.device_id and not self.behaviour.compliant:
            query.append(f"iep={self.device_id}")
        if self.behaviour.account_id:
            # Its version goes along only where the stored URI has a query.
            query.append(f"mccv={CLIENT_VERSION}")
        request = Message(code=codes.POST, uri_path=("bs",), uri_query=tuple(query), _token=conversation.new_token())
        self.note(f"-> POST /bs?{'&'.join(query)}")

        def replied(answer: Message) -> None:
            self.account.open = answer.code == codes.CHANGED

        answer = await conversation.ask(request, patience=self.patience.server, replied=replied)
        self.note(f"<- {answer.code.dotted} to POST /bs, {len(answer.payload)} bytes")
        if not self.account.open:
            text = answer.payload.decode(errors="replace")
            raise AttemptFailed(f"Bootstrap-Request answered {answer.code.dotted}" + (f" ({text})" if text else ""))

    async def _operations(self, site: Site, link: Link) -> str | None:
        """Wait for the Finish or what fails the bootstrap; each word of the server renews the patience."""
        loop = asyncio.get_running_loop()
        waiting: set[asyncio.Future[Any]] = {site.ended, link.lost}
        while (left := site.heard + self.patience.server - loop.time()) > 0:
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if site.ended.done():
                return site.ended.result()
            if link.lost.done():
                return f"{link.lost.result()} before the Finish"
        return f"the server said nothing for {self.patience.server:g} s"

    async def _enrolments(self, conversation: Conversation) -> dict[str, Credential]:
        """The credentials by name: with mode 4 asked for now, else those that were written."""
        finished = self.account.finished
        if finished is None:
            raise AssertionError("a bootstrap without failure has its Finish")
        if finished.uses_est:
            names = (LWM2M, *self.behaviour.certificates)
            held = {name: await self._enrolled(conversation, finished, name) for name in names}
        else:
            held = {LWM2M: self._written(finished)}
        if finished.lost:
            raise AttemptFailed(
                f"a Write took away resource {finished.lost[0]} of Security, where credentials are kept"
            )
        return held

    def _written(self, finished: Finished) -> Credential:
        """The credential that was written, of which it keeps who it is as of one that it asked for."""
        needs_device_id = not self.behaviour.compliant
        try:
            identity = checks.read_identity(0, finished.security)
            got = chains.named(identity.chain, identity.key, needs_device_id=needs_device_id)
        except (checks.UnusableCredential, chains.UnusableChain) as unusable:
            raise AttemptFailed(str(unusable)) from unusable
        self.device_id = got.device_id
        return Credential(identity.chain, identity.key)

    async def _enrolled(self, conversation: Conversation, finished: Finished, name: str) -> Credential:
        key = ec.generate_private_key(ec.SECP256R1())
        who = subject(device_id=finished.device_id, account_id=finished.account_id, endpoint=self.endpoint)
        self.note(f"-> EST for {name}, {who.rfc4514_string()}")

        async def ask(request: Message) -> Message:
            answer = await conversation.ask(request, patience=self.patience.server)
            self.note(f"<- {answer.code.dotted} to POST /{'/'.join(request.opt.uri_path)}, {len(answer.payload)} bytes")
            return answer

        build = COMPLIANT if self.behaviour.compliant else DEFAULT
        got = await enrol(
            ask, conversation.new_token(), certificate=name, csr=first_request(who, key), key=key, build=build
        )
        if got.endpoint != self.endpoint:
            raise EnrolmentFailed(f"the certificate's CN is {got.endpoint!r}, the endpoint name {self.endpoint!r}")
        if name == LWM2M:
            # From now on it is who the certificate says.
            self.device_id = got.device_id
        return Credential(got.chain, key)

    def _judge(self, held: Credential) -> None:
        """A witness's look beyond the client's own; raises AttemptFailed with everything that is wrong."""
        identity = Identity(instance=0, chain=held.chain, key=held.key)
        wrong = checks.problems(identity, endpoint=self.endpoint, now=datetime.now(UTC), trust=self.trust)
        if wrong:
            raise AttemptFailed("; ".join(wrong))

    # -- what stays ---------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Add a line to the transcript."""
        self.transcript.append(f"{time.monotonic() - self._began:9.3f} {text}")

    def save(self, out: Path) -> None:
        """Leave its transcript, what was written, and its credentials, further ones by their names."""
        credentials = {"" if name == LWM2M else name: held for name, held in self.credentials.items()}
        leave(folder_of(self.endpoint, out), self.transcript, self.account.as_json(), credentials)
