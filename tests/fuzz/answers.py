"""What a device answers to Discover, Read and Write, and asks for, into the codecs and the bootstrap session."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random

from lwm2m import link_format, lwm2m_cbor, senml
from lwm2m.bootstrap import (
    AskCredential,
    BootstrapRequest,
    BootstrapSession,
    Credential,
    Done,
    Failed,
    Learned,
    Send,
    Step,
    parse_bootstrap_request,
)
from lwm2m.coap import message as coap
from lwm2m.content_format import ContentFormat, decode_instances, encode_instance
from lwm2m.errors import DecodeError, EncodeError
from lwm2m.objects import NO_LINK, ObjectInstance, ObjectLink, ResourceValue
from lwm2m.paths import Path
from lwm2m.plan import OnError, Plan, SecurityPlan, ServerPlan
from lwm2m.steps import OperationKind
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Finding, Inputs

FORMATS = (ContentFormat.TLV, ContentFormat.SENML_CBOR, ContentFormat.SENML_JSON, ContentFormat.LWM2M_CBOR)
INSTANCES = (
    ObjectInstance(
        0, 1, {0: "coaps://lwm2m.example.com:5684", 1: False, 2: 2, 3: bytes(300), 10: 123, 16: {0: 0xC0AE}}
    ),
    ObjectInstance(1, 0, {0: 123, 1: 86400, 6: True, 7: "U", 10: ObjectLink(11, 0), 24: {0: NO_LINK, 300: NO_LINK}}),
    ObjectInstance(1, 65534, {12: -1, 13: (1 << 64) - 1, 25: {0: "1.1", 1: "1.2"}}),
    ObjectInstance(2, 0, {0: 3, 1: 0, 2: {101: 15, 102: 1}, 3: 101}),
    ObjectInstance(3, 0, {0: "Öpen", 9: 100, 6: {0: 1, 1: 5}, 7: {0: 3800, 1: 5000}, 13: 1367491215, 17: "x" * 300}),
    ObjectInstance(21, 0, {0: b"\0" * 16, 1: b"s", 2: b"r"}),
    ObjectInstance(4711, 5, {0: b"\0\1", 9: {1: b"", 2: b"long enough to have a length of its own"}}),
)
PAYLOADS = {format: [encode_instance(each, format) for each in INSTANCES] for format in FORMATS}
LINKS = [
    b'</>;lwm2m=1.1,</0/0>,</0/1>;ssid=101;uri="coaps://a:5684",</1/0>;ssid=101,</2/0>,</3/0>',
    b'lwm2m="1.0",</0>,</0/0>,</1>,</3/0>',
    b'</>;lwm2m=1.2;ct=11544,</1>;ver=1.2,</1/0>;ssid=65534,</3/0>;title="a \\"b\\" c",</4>',
    b'</5/0>;dim=8,</rd?ep=x>;rt="core.rd";sz=100,</0/65534>',
    b"",
]
REQUESTS = ["ep=urn:dev:os:1", "pct=112", "pct=11542", "aid=0123456789abcdef", "iep=1", "acc=</0/0>"]
PATHS = [Path.parse(text) for text in ("/", "/0", "/1", "/3", "/0/1", "/1/0", "/1/65534", "/3/0", "/3/0/6", "/4711/5")]
CREDENTIAL = Credential(chain=(b"leaf", b"issuing"), private_key_pkcs8=b"key")
MODES = ("server-key", "est", "est-then-server-key", "nosec")


class AnswersTarget:
    """One parser or one session a case."""

    def __init__(self) -> None:
        self._kinds: tuple[Callable[[Random, Inputs], None], ...] = (
            _instances,
            _instances,
            _instances,
            _links,
            _links,
            _items,
            _bootstrap_request,
            _session,
            _session,
        )

    async def case(self, random: Random, inputs: Inputs) -> None:
        """Read what a device sent: the value, or the one error that is named for it."""
        random.choice(self._kinds)(random, inputs)


def _instances(random: Random, inputs: Inputs) -> None:
    format = random.choice(FORMATS)
    payload = inputs.take(_payload(random, format))
    try:
        instances = decode_instances(payload, format, random.choice(PATHS))
    except DecodeError as error:
        _bounded(str(error))
        return
    for instance in instances:
        try:
            written = encode_instance(instance, format)
        except EncodeError:
            if not any(_unwritable(value) for value in instance.resources.values()) and instance.resources:
                raise
            continue
        again = decode_instances(written, format, Path(instance.object, instance.instance))
        if again != (instance,):
            raise Finding(f"read, written and read again, {instance.resources} is {again[0].resources}")


def _unwritable(value: ResourceValue) -> bool:
    """Read leniently, never written by us: several values that are none, or of several types."""
    return isinstance(value, Mapping) and len({type(each) for each in value.values()}) != 1


def _payload(random: Random, format: ContentFormat) -> bytes:
    own = PAYLOADS[format]
    kind = random.randrange(12)
    if kind == 0:
        return random.randbytes(random.randrange(40))
    if kind == 1:
        return random.choice(PAYLOADS[random.choice(FORMATS)])
    if kind == 2:
        # Made to cost: the same thing many times.
        return mutated(random, random.choice(own)) * random.choice((2, 10, 200))
    return mutated(random, random.choice(own), own)


def _links(random: Random, inputs: Inputs) -> None:
    payload = random.choice(LINKS)
    if random.random() < 0.1:
        payload = b",".join(payload for _ in range(random.choice((2, 100, 4096)))) or payload
    payload = inputs.take(mutated(random, payload, LINKS))
    try:
        link_format.parse_discover(payload)
    except DecodeError as error:
        _bounded(str(error))
    try:
        links = link_format.parse(payload)
    except DecodeError as error:
        _bounded(str(error))
        return
    if link_format.parse(link_format.serialise(links)) != links:
        raise Finding("links read, written and read again are others")


def _items(random: Random, inputs: Inputs) -> None:
    cbor = PAYLOADS[random.choice((ContentFormat.SENML_CBOR, ContentFormat.LWM2M_CBOR))]
    payload = inputs.take(mutated(random, random.choice(cbor), cbor))
    for read in (lwm2m_cbor.read_item, senml.read_cbor, senml.read_json):
        try:
            read(payload)
        except DecodeError as error:
            _bounded(str(error))


def _bootstrap_request(random: Random, inputs: Inputs) -> None:
    query = inputs.take(mutated(random, "&".join(random.sample(REQUESTS, random.randrange(1, 5))).encode()))
    try:
        parse_bootstrap_request(query.decode(errors="replace").split("&"))
    except DecodeError as error:
        _bounded(str(error))
    text = mutated(random, Learned(True, True, True, True, "tlv").as_json().encode()).decode(errors="replace")
    Learned.from_json(text)


def _bounded(text: str) -> None:
    # What a device sent may be quoted to an operator, but never at length.
    if len(text) > 500:
        raise Finding(f"an error of {len(text)} characters")


# -- a session ------------------------------------------------------------------------------------------------


def _session(random: Random, inputs: Inputs) -> None:
    security = SecurityPlan(uri="coaps://a", short_server_id=123, mode=random.choice(MODES), server_certificate=b"ca")
    plan = Plan(
        content_format=random.choice(("auto", "tlv", "senml-cbor", "senml-json", "lwm2m-cbor")),
        discover=random.choice(("auto", "auto", "never", "required")),
        securities=(replace(security, chain=random.choice(("auto", "leaf", "pem-chain"))),),
        servers=(ServerPlan(short_server_id=123),),
        on_error=OnError(
            delete=random.choice(("stop", "continue")), write=random.choice(("stop", "continue", "other-format"))
        ),
    )
    request = BootstrapRequest("dev-1", random.choice((None, *FORMATS)))
    learned = Learned(*(random.random() < 0.2 for _ in range(4)), random.choice((None, "tlv", "nothing")))
    session = BootstrapSession(request, plan, learned, credentials={})
    step: Step = session.start(0.0)
    for now in range(1, 60):
        match step:
            case Done() | Failed():
                break
            case AskCredential(index):
                step = session.supply(index, CREDENTIAL, now)
            case Send() as send:
                step = _answered(random, inputs, session, send, now)
    else:
        raise Finding("the session does not end")
    if isinstance(step, Done) and session.log[-1].operation is not OperationKind.FINISH:
        raise Finding("a session succeeded without Finish")
    for record in session.log:
        row = record.as_row()
        if not str(row).isprintable() or len(str(row)) > 1000:
            raise Finding(f"a row of the record is no fit line: {row}")
    if Learned.from_json(session.learned.as_json()) != session.learned:
        raise Finding("what was learned does not survive the record")


def _answered(random: Random, inputs: Inputs, session: BootstrapSession, send: Send, now: float) -> Step:
    kind = random.randrange(20)
    if kind == 0:
        return session.no_answer(now)
    if kind == 1:
        return session.reset(now)
    code = random.choice((coap.CHANGED, coap.DELETED, coap.CONTENT)) if kind < 15 else random.randrange(0x40, 0xC0)
    format: int | None = random.choice((None, None, 0, 40, *FORMATS, random.randrange(65536)))
    payload = mutated(random, random.choice((*LINKS, *PAYLOADS[ContentFormat.TLV])), LINKS)
    if send.operation.kind is OperationKind.DISCOVER and kind < 15:
        code, format = coap.CONTENT, random.choice((None, 40, 40, 40))
        payload = mutated(random, random.choice(LINKS), LINKS)
    return session.answer(code, format, inputs.take(payload), now, random.random() < 0.5)
