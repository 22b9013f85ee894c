"""A session has its time, whatever the device does with it."""

import asyncio
from pathlib import Path

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.types import ACK

from simulators.brief import Patience
from tests.integration.field import opened, steps
from tests.integration.raw_peer import RawPeer, raw_peer

NEVER = 600.0
# Longer than the session has.
PATIENT = Patience(handshake=20.0, server=15.0)


async def test_a_session_that_runs_out_of_time_ends_with_its_sentence_and_the_next_one_passes(tmp_path: Path) -> None:
    settings = tmp_path / "firstlight.toml"
    # That its association is idle for longer meanwhile ends it no sooner.
    settings.write_text("[limits]\nsession_seconds = 9\nidle_seconds = 5\n")
    async with opened(tmp_path, "--config", str(settings)) as field:
        certificate = field.certificate("slow")
        # It acknowledges the Finish, and its answer never comes.
        report, _ = await field.bootstrap("slow", credential=certificate, patience=PATIENT, finish_delay=NEVER)
        assert not report.ok
        [session] = (await field.ended("slow"))["sessions"]
        assert (session["outcome"], session["cause"]) == ("failed", "deadline")
        assert "slow ran out of time at /bs (Bootstrap): the device's turn" in session["sentence"]
        assert steps(session, "finish")
        report, _ = await field.bootstrap("slow", credential=certificate)
        assert report.ok, report.reason


async def test_a_device_that_bootstraps_once_more_on_its_association_is_not_sent_away_in_the_middle(
    tmp_path: Path,
) -> None:
    settings = tmp_path / "firstlight.toml"
    settings.write_text("[limits]\nafter_finish_seconds = 1\n")
    async with (
        opened(tmp_path, "--config", str(settings)) as field,
        raw_peer(field, field.certificate("again")) as peer,
    ):
        peer.send(peer.bootstrap_request("ep=again").encode())
        agree(peer, await asked_to_finish(peer))
        peer.send(peer.bootstrap_request("ep=again").encode())
        finish = await asked_to_finish(peer)
        # Longer than an association has after its Finish.
        await asyncio.sleep(2.0)
        agree(peer, finish)
        await field.over("again", count=2)
        assert [session["outcome"] for session in (await field.shown("again"))["sessions"]] == ["succeeded"] * 2


async def asked_to_finish(peer: RawPeer) -> Message:
    """Agree to all that the server asks, up to the Finish, which is returned."""
    while True:
        message = await peer.receive()
        if message.code is codes.POST:
            return message
        if message.code.is_request():
            agree(peer, message)


def agree(peer: RawPeer, request: Message) -> None:
    """Answer a request of the server in its acknowledgement; to a Discover that there is nothing."""
    done = {codes.GET: codes.NOT_FOUND, codes.DELETE: codes.DELETED}.get(request.code, codes.CHANGED)
    block = request.opt.block1
    answer = Message(code=codes.CONTINUE if block is not None and block.more else done, _mtype=ACK, _mid=request.mid)
    answer.token = request.token
    if block is not None:
        answer.opt.block1 = block
    peer.send(answer.encode())
