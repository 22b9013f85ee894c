"""One device must not be in the way of another, nor of its own next attempt."""

import asyncio
import gc
import random
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
import pytest_asyncio
from aiocoap import ACK, CON, Message
from aiocoap.numbers import codes

from simulators.brief import Behaviour, Patience
from simulators.device import Device
from simulators.faults import Faults, FaultyPath
from tests.integration.field import Field, asked_to_finish, opened
from tests.integration.raw_peer import RawPeer, raw_peer

pytestmark = pytest.mark.asyncio(loop_scope="module")

# An answer to Finish that is never given: such a device is in the middle of its bootstrap for as long as a test likes.
NEVER = 600.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    async with opened(tmp_path_factory.mktemp("associations"), "--workers", "2") as started:
        yield started


# -- its own next attempt ----------------------------------------


async def test_a_new_bootstrap_request_ends_the_session_under_way(field: Field) -> None:
    async with raw_peer(field, field.certificate("again")) as peer:
        first = peer.bootstrap_request("ep=again", "pct=112")
        assert (await peer.ask(first)).code.dotted == "2.04"
        second = peer.bootstrap_request("ep=again", "pct=112")
        assert (await peer.ask(second)).code.dotted == "2.04"
        [newer] = (await field.ended("again"))["sessions"]
        assert newer["cause"] == "superseded"
        assert "sent a new Bootstrap-Request" in newer["sentence"]
        # Its Discover was under way and is on record as what it was.
        assert [(step["op"], step.get("code")) for step in newer["steps"]] == [("discover", None)]


async def answered(peer: RawPeer, code: codes.Code) -> str:
    """The next operation of the server, which gets this answer."""
    while True:
        operation = await peer.receive()
        if operation.code.is_request():
            peer.send(Message(code=code, _mtype=ACK, _mid=operation.mid, _token=operation.token).encode())
            return f"{operation.code.name} /{'/'.join(operation.opt.uri_path)}"


async def test_a_device_that_asks_again_between_two_of_its_answers_gets_the_rest_of_its_bootstrap(field: Field) -> None:
    """Contiki-NG takes the 2.04 for the end and asks each second, over a slow network before its session is over."""
    async with raw_peer(field, field.certificate("impatient")) as peer:
        assert (await peer.ask(peer.bootstrap_request("ep=impatient"))).code.dotted == "2.04"
        assert await answered(peer, codes.NOT_FOUND) == "GET /"
        assert await answered(peer, codes.DELETED) == "DELETE /0"
        assert (await peer.ask(peer.bootstrap_request("ep=impatient"))).code.dotted == "2.04"
        assert await answered(peer, codes.DELETED) == "DELETE /1"
        other_format = peer.bootstrap_request("ep=impatient", "pct=112")
        assert (await peer.ask(other_format)).code.dotted == "2.04"
        assert await answered(peer, codes.NOT_FOUND) == "GET /"
    sessions = (await field.ended("impatient", count=2))["sessions"]
    assert [session["cause"] for session in sessions] == ["association_lost", "superseded"]


async def test_a_device_that_lost_its_power_comes_back_on_the_same_port(field: Field) -> None:
    certificate = field.certificate("reboots")
    twice = Patience(handshake=20.0, server=40.0, first_back_off=0.1, attempts=2)
    async with field.device("reboots", credential=certificate, patience=twice, finish_delay=NEVER) as device:
        under_way = asyncio.create_task(device.bootstrap())
        await asked_to_finish(device)
        device.behaviour = Behaviour()
        device.lose_power()
        report = await under_way
    assert (report.ok, report.attempts) == (True, 2), report.reason
    shown = await field.ended("reboots", count=2)
    assert [session["outcome"] for session in shown["sessions"]] == ["succeeded", "failed"]
    assert {session["address"] for session in shown["sessions"]} == {shown["sessions"][0]["address"]}
    assert shown["state"] == "bootstrapped"
    # The key was held for it: the certificate is the same, and one.
    assert [issuance["state"] for issuance in shown["issuances"]] == ["delivered"]


async def test_a_session_that_ends_late_does_not_hide_a_newer_one_of_another_worker(field: Field) -> None:
    for number in range(20):
        name = f"elsewhere-{number}"
        certificate = field.certificate(name)
        async with field.device(name, credential=certificate, finish_delay=NEVER) as device:
            under_way = asyncio.create_task(device.bootstrap())
            await asked_to_finish(device)
            # From another port, so every second time at the other worker, which knows nothing of the first session.
            report, _ = await field.bootstrap(name, credential=certificate)
            assert report.ok, report.reason
            await field.over(name)
            device.lose_power()
            assert not (await under_way).ok
            if field.ends(name)[0]["event"] == "bootstrap_succeeded":
                # The worker that waits for the lost device learns of it from the next one on that port.
                async with field.device(f"{name}-after") as other:
                    other._socket, device._socket = device._socket, None
                    report = await other.bootstrap()
                    assert report.ok, report.reason
                break
    else:
        pytest.fail("twenty devices met one worker only")
    shown = await field.ended(name, count=2)
    assert shown["state"] == "bootstrapped"
    outcomes = [(session["outcome"], session["cause"]) for session in shown["sessions"]]
    assert outcomes == [("succeeded", None), ("failed", "association_lost")]


# -- two workers ----------------------------------------


async def test_two_workers_share_the_devices(field: Field) -> None:
    names = [f"shared-{number:02d}" for number in range(16)]
    reports = await asyncio.gather(*(field.bootstrap(name) for name in names))
    assert all(report.ok for report, _ in reports), [report.reason for report, _ in reports]
    serials = {device.identities[0].leaf.serial_number for _, device in reports}
    assert len(serials) == len(names)
    for name in names:
        await field.over(name)
    listed = await field.service.command("device", "list", "--json", "--limit", "1000")
    assert all(f'"{name}"' in listed for name in names)


# -- nonsense ----------------------------------------

NONSENSE = {
    "three bytes": b"\x40\x01\x00",
    "version 0": b"\x00\x01\x12\x34",
    "version 3": b"\xc0\x01\x12\x34",
    "token of nine bytes": b"\x49\x01\x12\x34" + b"t" * 9,
    "token cut off": b"\x48\x01\x12\x34tt",
    "payload marker and nothing": b"\x40\x02\x12\x35\xff",
    "empty message with a token": b"\x41\x00\x12\x36t",
    "option delta 15": b"\x40\x02\x12\x37\xf0",
    "option beyond the end": b"\x40\x02\x12\x38\xbd\xffbs",
    "path that is not UTF-8": b"\x40\x02\x12\x39\xb2\xc3\x28",
    "reserved class": b"\x40\xe1\x12\x3a",
    "an acknowledgement of nothing": b"\x60\x00\xab\xcd",
    "an answer to nothing": b"\x61\x45\xab\xcdt\xffhello",
    "a confirmable answer to nothing": b"\x41\x45\xab\xcet\xffhello",
    "a reset of nothing": b"\x70\x00\xab\xcd",
    "zeros": b"\x00" * 1000,
    "ones": b"\xff" * 1000,
}


async def test_nonsense_in_an_association_disturbs_nobody(field: Field) -> None:
    async with raw_peer(field, field.certificate("babbler")) as peer:
        for datagram in NONSENSE.values():
            peer.send(datagram)
        report, _ = await field.bootstrap("beside-1")
        assert report.ok, report.reason
        # In the middle of another's session, and of its own.
        async with field.device("beside-2", finish_delay=2.0) as device:
            under_way = asyncio.create_task(device.bootstrap())
            await asked_to_finish(device)
            assert (await peer.ask(peer.bootstrap_request("ep=babbler"))).code.dotted == "2.04"
            for datagram in NONSENSE.values():
                peer.send(datagram)
            report = await under_way
            assert report.ok, report.reason


@pytest.mark.parametrize(
    "name",
    [name for name, datagram in NONSENSE.items() if len(datagram) >= 4 and datagram[0] >> 4 == 4],
)
async def test_a_confirmable_that_cannot_be_understood_is_reset_or_refused(field: Field, name: str) -> None:
    datagram = NONSENSE[name]
    async with raw_peer(field, field.certificate("resets")) as peer:
        peer.send(datagram)
        answer = await peer.receive()
        assert answer.mid == int.from_bytes(datagram[2:4], "big")
        assert answer.mtype.name == "RST" or answer.code.dotted == "4.02"


async def test_noise_on_the_socket_disturbs_nobody(field: Field) -> None:
    noise = random.Random(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(field.address)
        for _ in range(50):
            for header in (b"", b"\x16\xfe\xfd", b"\x16\xfe\xff" + bytes(8), b"\x17\xfe\xfd\x00\x01"):
                sock.send(header + noise.randbytes(noise.randrange(1, 1200)))
        report, _ = await field.bootstrap("beside-noise")
    assert report.ok, report.reason


async def test_a_path_that_damages_datagrams_harms_only_its_own_device(field: Field) -> None:
    damaged = Faults(truncate=0.1, flip=0.1)
    stubborn = Patience(handshake=20.0, server=20.0, first_back_off=0.1, attempts=10)
    async with FaultyPath(to=field.address, faults=damaged, seed=7) as path:
        server = replace(field.server, address=path.address)
        async with Device("damaged", field.certificate("damaged"), server, patience=stubborn) as device:
            under_way = asyncio.create_task(device.bootstrap())
            for number in range(3):
                report, _ = await field.bootstrap(f"undamaged-{number}")
                assert (report.ok, report.attempts) == (True, 1), report.reason
            report = await under_way
            # Its answer to Finish may be what was damaged, and is asked for again.
            await device.linger(8.0)
    assert report.ok, report.reason
    counts = path.counts.as_json()
    assert counts["truncated"]
    assert counts["flipped"]


async def test_oversized_payloads_are_refused_without_being_gathered(field: Field) -> None:
    async with raw_peer(field, field.certificate("heavy")) as peer:
        answer = await peer.ask(peer.bootstrap_request("ep=heavy", payload=b"x" * 16, block1=(0, True, 7)))
        assert answer.code.dotted == "4.00"
        answer = await peer.ask(peer.bootstrap_request("ep=heavy", payload=b"x" * 1024, block1=(5000, True, 6)))
        assert answer.code.dotted in ("4.08", "4.13")
        number, answer = 0, None
        while answer is None or answer.code.dotted == "2.31":
            answer = await peer.ask(peer.bootstrap_request("ep=heavy", payload=b"x" * 1024, block1=(number, True, 6)))
            number += 1
        assert answer.code.dotted == "4.13"
        assert answer.opt.size1
        # And it may still do what it came for.
        assert (await peer.ask(peer.bootstrap_request("ep=heavy"))).code.dotted == "2.04"


@pytest.mark.parametrize("method", [codes.GET, codes.POST])
async def test_a_bootstrap_pack_request_is_sent_on_to_bs(field: Field, method: codes.Code) -> None:
    name = f"pack-{method.name}"
    async with raw_peer(field, field.certificate(name)) as peer:
        assert (await peer.ask(peer.request(method, "/bspack", f"ep={name}"))).code.dotted == "5.01"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        (codes.GET, "/bs", "4.05"),
        (codes.PUT, "/bs", "4.05"),
        (codes.POST, "/rd", "4.04"),
        (codes.GET, "/.well-known/lwm2m", "4.04"),
        (codes.POST, "/.well-known/core", "4.05"),
        (codes.POST, "/bs/1", "4.04"),
    ],
)
async def test_what_is_not_here_is_not_found_or_not_allowed(
    field: Field, method: codes.Code, path: str, code: str
) -> None:
    async with raw_peer(field, field.certificate("explorer")) as peer:
        assert (await peer.ask(peer.request(method, path))).code.dotted == code


async def test_a_device_that_asks_in_vain_is_listed_with_what_it_asked(field: Field) -> None:
    async with raw_peer(field, field.certificate("lost")) as peer:
        assert (await peer.ask(peer.request(codes.POST, "/bs\x07", "ep=lost"))).code.dotted == "4.04"
        assert (await peer.ask(peer.bootstrap_request("ep=lost", critical=2049))).code.dotted == "4.02"
    row = await field.seen_with("CN=lost: POST")
    assert (row["reason"], row["credential"]) == ("not_served", "x509")
    assert row["identity"].endswith("POST /bs\\x07 is not served here")
    row = await field.seen_with("CN=lost: critical option 2049 is not understood")
    assert row["reason"] == "bad_option"
    assert row["meaning"]


async def test_what_went_wrong_is_counted(field: Field) -> None:
    async with httpx.AsyncClient(base_url=field.service.ready["http"]) as client:
        metrics = (await client.get("/metrics")).text
    assert "firstlight_internal_errors_total 0.0" in metrics


# -- the simulated device itself ----------------------------------------


@pytest.mark.parametrize("way", ["closed", "lost", "overtaken"])
async def test_a_request_that_comes_in_the_moment_a_simulated_device_ends_is_lost_and_leaves_nothing(
    field: Field, way: str
) -> None:
    discover = Message(_mtype=CON, _mid=1, _token=b"1", code=codes.GET, payload=b"").encode()
    loop = asyncio.get_running_loop()
    async with field.device(f"ends-{way}") as device:
        await device.connect()
        association = device._association
        assert association is not None
        if way == "closed":
            closing = asyncio.ensure_future(association.close())
            # Behind the first step of closing, before anything that step set off.
            loop.call_soon(association._dispatch, discover)
            await closing
        elif way == "lost":
            association.vanish()
            association._dispatch(discover)
            await asyncio.sleep(0)
        else:
            association._dispatch(discover)
            # The same token in another message, before the first request had its turn.
            association._dispatch(discover[:3] + b"\x02" + discover[4:])
            await asyncio.sleep(0)
        # What aiocoap began and never ran would say so when it goes, and every warning fails a test.
        gc.collect()
