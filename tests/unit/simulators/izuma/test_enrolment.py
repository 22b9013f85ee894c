"""EST by the client's own habits: the bytes of its request, blocks both ways, and what it takes for an answer."""

import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from cryptography.hazmat.primitives.asymmetric import ec

from issuers.csr import check_csr
from simulators.izuma.chain import Named
from simulators.izuma.enrolment import EnrolmentFailed, enrol, first_request, subject
from tests.unit.simulators.izuma.test_chain import ISSUING, LEAF, encoded

TOKEN = b"toke"
BODY = encoded(LEAF, ISSUING)
WHO = subject(device_id="d" * 32, account_id="a" * 32, endpoint="dev-1")


class Server:
    """Answers with `BODY` in blocks of `size` bytes, or with `code`, and keeps what it was asked."""

    def __init__(self, *, size: int = 512, code: codes.Code = codes.CHANGED, block1: int = 5) -> None:
        self.asked: list[Message] = []
        self.raw: list[bytes] = []
        self.csr = b""
        self._size, self._code, self._block1 = size, code, block1

    async def ask(self, request: Message) -> Message:
        request.mid, request.mtype = 1, 0
        # What is on the wire, not what was meant.
        self.raw.append(request.encode())
        arrived = Message.decode(self.raw[-1])
        self.asked.append(arrived)
        block1 = arrived.opt.block1
        if arrived.payload:
            assert block1 is None or block1.start == len(self.csr)
            self.csr += arrived.payload
        if block1 is not None and block1.more:
            answer = Message(code=codes.CONTINUE)
            answer.opt.block1 = (block1.block_number, True, min(self._block1, block1.size_exponent))
            return answer
        at = arrived.opt.block2.block_number * self._size
        answer = Message(code=self._code, payload=BODY[at : at + self._size])
        if len(BODY) > self._size:
            answer.opt.block2 = (at // self._size, at + self._size < len(BODY), self._size.bit_length() - 5)
        return answer


async def enrolled(server: Server, csr: bytes = b"csr", name: str = "LWM2M") -> Named:
    return await enrol(server.ask, TOKEN, certificate=name, csr=csr, key=LEAF.key)


def test_the_request_has_the_subject_in_its_order_and_no_extension() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = check_csr(first_request(WHO, key))
    assert [(each.rfc4514_attribute_name, each.value) for each in csr.subject] == [
        ("L", "d" * 32),
        ("OU", "a" * 32),
        ("CN", "dev-1"),
    ]
    assert list(csr.extensions) == []
    assert csr.is_signature_valid
    assert csr.public_key() == key.public_key()


async def test_the_options_are_the_clients_own() -> None:
    server = Server(size=1024)
    await enrolled(server)
    # CON POST, token of 4; /est/sen; Content-Format and Max-Age empty; Block2 0 of 512; no Accept.
    assert server.raw[0] == b"\x44\x02\x00\x01" + TOKEN + b"\xb3est\x03sen\x10\x20\x91\x05\xffcsr"


async def test_a_further_certificate_has_its_name_in_the_path() -> None:
    server = Server()
    await enrolled(server, name="customer.dlms")
    assert server.asked[0].opt.uri_path == ("est", "customer.dlms", "sen")


@pytest.mark.parametrize("size", [64, 256, 512])
async def test_further_blocks_are_asked_by_post_with_the_same_token_and_nothing_in_it(size: int) -> None:
    server = Server(size=size)
    got = await enrolled(server)
    assert len(got.chain) == 2
    first, *others = server.asked
    assert len(others) == (len(BODY) - 1) // size
    for number, asked in enumerate(others, 1):
        assert (asked.code, asked.token, asked.payload) == (codes.POST, TOKEN, b"")
        assert asked.opt.uri_path == first.opt.uri_path
        assert asked.opt.block2.block_number == number


@pytest.mark.parametrize("smaller", [5, 4, 2])
async def test_a_long_request_goes_in_blocks_of_the_size_the_server_wants(smaller: int) -> None:
    server = Server(block1=smaller)
    csr = bytes(range(256)) * 5
    await enrolled(server, csr)
    assert server.csr == csr
    sizes = [len(asked.payload) for asked in server.asked if asked.opt.block1 is not None and asked.opt.block1.more]
    assert sizes[0] == 512
    assert set(sizes[1:]) == {16 << smaller}


@pytest.mark.parametrize("code", [codes.CREATED, codes.CHANGED, codes.CONTENT])
async def test_any_success_will_do(code: codes.Code) -> None:
    assert (await enrolled(Server(code=code))).endpoint == "dev-1"


@pytest.mark.parametrize("code", [codes.SERVICE_UNAVAILABLE, codes.BAD_REQUEST, codes.NOT_FOUND])
async def test_anything_else_is_a_failure_and_not_asked_again(code: codes.Code) -> None:
    server = Server(code=code)
    with pytest.raises(EnrolmentFailed, match=code.dotted):
        await enrolled(server)
    assert len(server.asked) == 1
