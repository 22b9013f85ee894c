"""The messages of one request of ours, byte by byte; its blocks are in `test_uploads.py` and `test_downloads.py`."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.coap import message as coap
from lwm2m.coap.events import ResponseReceived
from lwm2m.coap.message import Message, Option
from lwm2m.coap.options import SIZE1, URI_PATH, URI_QUERY, encode_uint
from lwm2m.coap.parameters import Parameters
from lwm2m.errors import EncodeError
from tests.unit.coap.peer import Peer, block1
from tests.unit.coap.plain_codec import write_plainly

segments = st.lists(st.text(max_size=4), max_size=3)
other_options = st.lists(
    st.tuples(st.one_of(st.sampled_from([3, 12, 17, 23, 27, 28]), st.integers(0, 400)), st.binary(max_size=14)),
    max_size=3,
)


@settings(deadline=None)
@given(
    st.sampled_from([coap.GET, coap.POST, coap.PUT, coap.DELETE]),
    segments,
    segments,
    other_options,
    st.binary(max_size=100),
    st.sampled_from([16, 32, 64]),
)
def test_every_message_of_a_request_is_what_its_options_written_anew_would_be(
    code: int, path: list[str], query: list[str], options: list[Option], payload: bytes, size: int
) -> None:
    peer = Peer(Parameters(block_size=size))
    peer.exchanges.request(code, path, peer.now, options=options, payload=payload, query=query)
    target = [
        *((URI_PATH, segment.encode()) for segment in path),
        *((URI_QUERY, argument.encode()) for argument in query),
        *options,
    ]
    blocks = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    for number, block in enumerate(blocks):
        more = number + 1 < len(blocks)
        given = [*target]
        if len(blocks) > 1:
            given.append(block1(number, more, size))
            if number == 0:
                given.append((SIZE1, encode_uint(len(payload))))
        [datagram] = peer.exchanges.datagrams_to_send()
        request = Message(coap.CON, code, 0x11 + number, b"\x20\x01", given, block)
        assert datagram == write_plainly(request)
        peer.answer(request, coap.CONTINUE if more else coap.CHANGED, [block1(number, more, size)] if more else [])
    assert [type(event) for event in peer.happened()] == [ResponseReceived]


def test_a_request_that_cannot_be_written_is_refused_at_once_and_holds_up_no_other() -> None:
    peer = Peer()
    for code, options in ((coap.PUT, [(12, bytes(65805))]), (coap.PUT, [(65536, b"")]), (0, []), (0x20, []), (256, [])):
        with pytest.raises(EncodeError):
            peer.exchanges.request(code, ("0",), peer.now, options=options)
    assert peer.sent() == []
    peer.exchanges.request(coap.DELETE, ("0",), peer.now)
    assert peer.sent_one().code == coap.DELETE
