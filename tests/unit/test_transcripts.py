"""server/transcripts.py and lwm2m/replay.py on their own: a whole association played here, and broken files."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lwm2m.bootstrap import BootstrapSession, Learned, PskCredential
from lwm2m.bootstrap_request import parse_bootstrap_request
from lwm2m.coap import message as coap
from lwm2m.coap.events import RequestReceived, ResponseReceived
from lwm2m.coap.exchange import Exchanges
from lwm2m.coap.message import Message, decode, encode
from lwm2m.coap.options import BLOCK1, URI_PATH, URI_QUERY, content_format
from lwm2m.coap.parameters import Parameters
from lwm2m.coap.tape import Answered, Ended, Requested, Started, Tape
from lwm2m.replay import describe, replay
from lwm2m.steps import Done, Send
from server import transcripts
from server.cli.transcript import file_name
from server.errors import BadRequest
from server.profile import parse_profile
from server.recorder import TapedSession

PROFILE = """
[[security]]
uri = "coaps://lwm2m.example.com:5684"
short_server_id = 1
mode = "psk"
[[servers]]
short_server_id = 1
"""
KEY = bytes(range(64, 96))


def played(
    *, lose_first: bool = False, lose_accept: bool = False, in_parts: bool = False, echoes: bool = False
) -> Tape[TapedSession]:
    """One bootstrap on a tape: the server's side is the real one, the device answers 2.04 (2.02) to everything.

    `in_parts`: but for the whole Security instance, which comes in blocks. `echoes`: it says back what is written.
    """
    parameters = Parameters(block_size=32)
    tape: Tape[TapedSession] = Tape(parameters, 7, b"seed", iter([0.5, 0.1] * 40).__next__)
    exchanges = Exchanges(parameters=parameters, first_mid=7, token_seed=b"seed", jitter=tape.draw)
    now = 100.0

    def sent() -> Iterator[bytes]:
        for datagram in exchanges.datagrams_to_send():
            tape.sent(now, datagram)
            yield datagram

    query = ["ep=device-1", "pct=11542"]
    asked = Message(
        coap.CON, coap.POST, 1, b"q", [(URI_PATH, b"bs"), *((URI_QUERY, word.encode()) for word in query)], b""
    )
    tape.received(now, encode(asked))
    (arrived,) = exchanges.receive(encode(asked), now)
    assert isinstance(arrived, RequestReceived)
    profile = parse_profile(PROFILE, {}, name="p")
    credentials = {0: PskCredential(identity=b"identity", key=KEY)}
    tape.conceal(KEY, b"identity")
    learned = Learned(discover_silent=lose_accept, izuma=lose_accept)
    tape.sessions.append(TapedSession(profile, learned, False, (), None, credentials))
    tape.note(Answered, now, arrived.request_id, coap.CHANGED, (), 0)
    exchanges.respond(arrived.request_id, coap.CHANGED, now)
    exchanges.take_events()
    list(sent())
    session = BootstrapSession(parse_bootstrap_request(query), profile.plan, learned, credentials=credentials)
    tape.note(Started, now)
    step = session.start(now)
    while isinstance(step, Send):
        now += 0.01
        operation = step.operation
        tape.body(operation.payload)
        tape.note(Requested, now)
        if step.accept_again:
            exchanges.say_again()
        exchanges.request(
            operation.code,
            operation.segments,
            now,
            options=operation.options,
            payload=operation.payload,
            max_retransmit=0 if step.may_be_silent else None,
        )
        answer = None
        while answer is None:
            *again, datagram = sent()
            assert bool(again) == step.accept_again
            if lose_first:
                lose_first, now = False, now + 3.0
                assert exchanges.handle_timer(now) == []
                (datagram,) = sent()
            now += 0.01
            request = decode(datagram)
            reply = _reply(request, refused=lose_accept and not session.log, echoes=echoes)
            if in_parts and operation.path == "/0/2" and session.log[-1].path != "/0/2":
                reply = encode(Message(coap.ACK, coap.INTERNAL_SERVER_ERROR, request.mid, request.token, [], b""))
            tape.received(now, reply)
            for event in exchanges.receive(reply, now):
                assert isinstance(event, ResponseReceived)
                tape.heard(event.payload, event.options)
                answer = event
        step = session.answer(answer.code, content_format(answer.options), answer.payload, now, answer.in_blocks)
    assert isinstance(step, Done)
    assert session.learned.in_parts == in_parts
    tape.note(Ended, now, None)
    return tape


def _reply(request: Message, *, refused: bool, echoes: bool) -> bytes:
    block = [(number, value) for number, value in request.options if number == BLOCK1]
    more = bool(block) and bool(int.from_bytes(block[0][1], "big") & 8)
    code = {coap.DELETE: coap.DELETED, coap.GET: coap.NOT_FOUND}.get(request.code, coap.CHANGED)
    if more:
        code = coap.CONTINUE
    if refused:
        code = coap.BAD_REQUEST
    said = request.payload if echoes else b""
    return encode(Message(coap.ACK, code, request.mid, request.token, block, said))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(transcripts.write(played(), {"endpoint": "device-1"}))
    return read


@pytest.mark.parametrize(
    "course",
    [{}, {"lose_first": True}, {"lose_accept": True}, {"in_parts": True}, {"echoes": True}],
    ids=["nothing", "first", "accept", "in parts", "echoes"],
)
def test_what_was_played_replays_clean_and_holds_no_secret(course: dict[str, bool]) -> None:
    written = transcripts.write(played(**course), {"endpoint": "device-1"})
    read = transcripts.read(written)
    assert read.recording.entries
    assert replay(read.recording) == []
    whole = "".join(row.get("datagram", "") for row in json.loads(written)["entries"])
    assert not any(KEY[at : at + 5].hex() in whole for at in range(len(KEY) - 4))
    assert b"identity".hex() not in whole


def test_a_shown_transcript_is_read_like_a_stored_one(document: dict[str, Any]) -> None:
    shown = transcripts.shown(json.dumps(document))
    assert "POST /bs?ep=device-1&pct=11542" in shown["entries"][0]["says"]
    assert transcripts.read(json.dumps(shown)).recording == transcripts.read(json.dumps(document)).recording
    assert transcripts.text(shown)[-1].endswith("== succeeded")


def test_every_datagram_that_is_changed_or_taken_away_is_noticed(document: dict[str, Any]) -> None:
    places = [at for at, row in enumerate(document["entries"]) if row.get("from") == "server"]
    for at in places:
        for change in ("flip", "take away"):
            tampered = json.loads(json.dumps(document))
            row = tampered["entries"][at]
            if change == "flip":
                datagram = bytearray.fromhex(row["datagram"])
                datagram[2] ^= 0x40
                row["datagram"] = datagram.hex()
            else:
                del tampered["entries"][at]
            assert replay(transcripts.read(json.dumps(tampered)).recording), f"{change} {at}"


def test_another_verdict_is_noticed(document: dict[str, Any]) -> None:
    tampered = json.loads(json.dumps(document))
    tampered["entries"][-1] |= {"cause": "write_refused", "path": "/0/0", "code": 0x85}
    (one,) = replay(transcripts.read(json.dumps(tampered)).recording)
    assert one.recorded == "it failed: write_refused at /0/0 with 4.05"
    assert one.now == "it succeeded"


def test_what_a_device_sends_moves_no_cursor_of_whoever_reads_it(document: dict[str, Any]) -> None:
    """A path or a query is any text, and ends up in the terminal of an operator."""
    hostile = Message(coap.CON, coap.POST, 1, b"", [(URI_PATH, b"\x1b[2J"), (URI_QUERY, "ep=\u202ea".encode())], b"")
    assert describe(encode(hostile)) == r"CON 0x0001 POST /\x1b[2J?ep=\u202ea"
    # What another server says of it is no better.
    told = transcripts.text({"entries": [{"at": 0.0, "from": "device", "says": "\x1b[2J"}]})
    assert told == [r"       0.0 ms  <- \x1b[2J"]


def test_a_transcript_is_told_in_whatever_the_terminal_can_show(tmp_path: Path) -> None:
    """It may be of a stranger; and no terminal but those of UTF-8 has all characters of a name."""
    file = tmp_path / "transcript.json"
    file.write_text(transcripts.write(played(), {"endpoint": "z\u00e4hler\x1b]0;title\x07"}))
    program = (
        "import sys; from server.cli.commands import main; sys.argv = ['firstlight', 'replay', sys.argv[1]]; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-P", "-c", program, str(file)],
        capture_output=True,
        check=False,
        env={"PYTHONIOENCODING": "ascii"},
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert rb"of z\xe4hler\x1b]0;title\x07," in ended.stdout


@pytest.mark.parametrize("endpoint", ["urn:dev:os:0001", "/" * 255, "\u00e4" * 127])
def test_the_file_of_a_transcript_has_a_name_that_a_folder_takes(tmp_path: Path, endpoint: str) -> None:
    first, second = (tmp_path / file_name(endpoint, UUID(int=number)) for number in (1, 2))
    first.write_text("{}")
    assert first != second
    assert first.parent == tmp_path


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers(), max_size=2)
)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_broken_transcript_is_refused_or_replayed_and_nothing_else(
    data: st.DataObject, document: dict[str, Any]
) -> None:
    broken = json.loads(json.dumps(document))
    place: Any = broken
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        below = place[key]
        if isinstance(below, dict | list) and below and data.draw(st.booleans()):
            place = below
            continue
        if data.draw(st.booleans()):
            del place[key]
        else:
            place[key] = data.draw(VALUES)
        break
    try:
        recording = transcripts.read(json.dumps(broken)).recording
    except BadRequest:
        return
    replay(recording)
