"""The CoAP messages of RFC 9148 appendix B.1: a crts answer of 639 bytes, fetched in blocks of 64."""

from __future__ import annotations

from typing import Any

import pytest

from lwm2m.coap import message as coap
from lwm2m.coap.exchange import Exchanges, Parameters, RequestReceived
from lwm2m.coap.message import Message, decode, encode
from lwm2m.coap.options import ACCEPT, BLOCK2, SIZE2, accept, decode_block, read_target
from tests.unit.lwm2m import vectors

GET, *ANSWERS = vectors.load("rfc9148-appendix-b.1.json")
FIRST, SECOND, LAST = (bytes.fromhex(answer["payload"]) for answer in ANSWERS)
# The text prints three of the ten blocks.
BODY = FIRST + SECOND + bytes(639 - 3 * 64 + 1) + LAST


def message(vector: dict[str, Any], mid: int = 0) -> Message:
    options = [(number, bytes.fromhex(value)) for number, value in vector["options"]]
    token, payload = bytes.fromhex(vector["token"]), bytes.fromhex(vector["payload"])
    return Message(vector["type"], vector["code"], mid, token, options, payload)


@pytest.mark.parametrize("vector", [GET, *ANSWERS], ids=lambda vector: vector["name"])
def test_the_messages_of_the_appendix_read_and_write(vector: dict[str, Any]) -> None:
    datagram = bytes.fromhex(vector["hex"])
    assert decode(datagram) == message(vector)
    assert encode(message(vector)) == datagram
    if "block" in vector:
        assert list(decode_block(dict(message(vector).options)[BLOCK2])) == vector["block"]


def test_the_request_asks_for_ca_certificates_as_pkcs7() -> None:
    asked = message(GET)
    assert read_target(asked.options).path == ("est", "crts")
    assert accept(asked.options) == 281


def test_our_answers_are_those_of_the_appendix_block_by_block() -> None:
    exchanges = Exchanges(parameters=Parameters(), first_mid=1, token_seed=b"\1", jitter=lambda: 0.0)
    answers: list[Message] = []
    for number in range(10):
        asked = message(GET, mid=number)
        asked.options = [*asked.options, (BLOCK2, bytes([number << 4 | 2]))]
        assert asked.options[-2][0] == ACCEPT
        for event in exchanges.receive(encode(asked), 0.0):
            if isinstance(event, RequestReceived):
                exchanges.respond(event.request_id, coap.CONTENT, 0.0, options=[(12, b"\x01\x19")], payload=BODY)
        answers += map(decode, exchanges.datagrams_to_send())
    # Ours tells the whole size with the first block (RFC 7959 4), which the appendix leaves out.
    assert dict(answers[0].options)[SIZE2] == (639).to_bytes(2, "big")
    answers[0].options = [option for option in answers[0].options if option[0] != SIZE2]
    assert [answers[0], answers[1], answers[9]] == [
        message(vector, mid) for vector, mid in zip(ANSWERS, (0, 1, 9), strict=True)
    ]
    assert b"".join(answer.payload for answer in answers) == BODY
