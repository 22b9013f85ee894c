"""CSRs of devices on a real PostgreSQL, with a CA that does what each test says: one CSR is signed once (design 7)."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from issuers import csr
from issuers.base import Issued, IssueRequest
from issuers.errors import BadCertificate, Check, Misconfigured, Rejected, Unavailable
from issuers.returned import DeviceLimits
from server import device_made
from server.device_made import StillAsking
from server.errors import ComeAgain, Conflict, KeyTaken, NotAuthorized
from server.store import certificate_enrollments, certificates
from server.store.audit import Actor
from tests import pki
from tests.integration.field import until
from tests.integration.issuers import Gate, ScriptedCa, Workers, csr_wish, in_turn, is_for, raises
from tests.integration.rows import ACCOUNT

OPERATOR = Actor(kind="cli", name="kim", request_id="")


# -- the same CSR ----------------------------------------


async def test_a_certificate_is_on_record_before_its_device_has_it_and_waits_for_it(
    rig: Workers, ca: ScriptedCa
) -> None:
    worker, wished = await rig.worker(), csr_wish()
    certified = await worker.device_made.certificate(wished)
    assert is_for(certified, wished.csr)
    row = await rig.row()
    assert (row.state, row.settled, row.server_key, row.csr_sha256) == ("issued", True, False, wished.csr_sha256)
    # Nobody holds it, and nobody abandons it: the device has the key and asks again.
    rig.clock.let_pass(3600)
    await worker.issuance.settlement.settle()
    assert (await rig.row()).state == "issued"
    assert ca.revoked == []


async def test_the_same_csr_gets_the_same_certificate_at_any_worker(rig: Workers, ca: ScriptedCa) -> None:
    wished = csr_wish()
    first = await (await rig.worker("worker-1")).device_made.certificate(wished)
    again = await (await rig.worker("worker-2")).device_made.certificate(wished)
    assert (again.chain, again.issuance_id, first.again, again.again) == (first.chain, first.issuance_id, False, True)
    assert ca.signed_once
    assert len(ca.asked) == 1


async def test_a_day_after_the_delivery_the_same_csr_is_a_new_wish(rig: Workers, ca: ScriptedCa) -> None:
    worker, wished = await rig.worker(), csr_wish()
    first = await worker.device_made.certificate(wished)
    await worker.device_made.delivered(first.issuance_id)
    assert (await worker.device_made.certificate(wished)).serial == first.serial
    assert (await rig.row()).state == "delivered"
    async with rig.database.acquire() as connection:
        await connection.execute("UPDATE issuance SET answers_until = now() - interval '1 second'")
    assert (await worker.device_made.certificate(wished)).serial != first.serial
    assert await rig.states() == ["delivered", "issued"]


async def test_two_workers_race_one_csr_and_one_signature_is_made(rig: Workers, ca: ScriptedCa) -> None:
    gate = ca.on_issue = Gate(ca.signs)
    one, two = await rig.worker("worker-1"), await rig.worker("worker-2")
    wished = csr_wish()
    racing = [asyncio.create_task(worker.device_made.certificate(wished)) for worker in (one, two) for _ in range(3)]
    await gate.reached.wait()
    # Those who lost the race look at the row of the one that won.
    await asyncio.sleep(0.3)
    gate.open.set()
    certified = await asyncio.gather(*racing)
    assert len({each.issuance_id for each in certified}) == 1
    assert len({each.chain for each in certified}) == 1
    assert len(ca.asked) == 1
    assert await rig.states() == ["issued"]


# -- the next certificate ----------------------------------------


async def test_who_renews_the_certificate_it_shows_gets_another_one_for_the_same_csr_and_that_one_again(
    rig: Workers, ca: ScriptedCa
) -> None:
    one, two = await rig.worker("worker-1"), await rig.worker("worker-2")
    wished = csr_wish()
    first = await one.device_made.certificate(wished)
    await one.device_made.delivered(first.issuance_id)
    renewing = csr_wish(csr=wished.csr, renews=first.issuance_id)
    second = await one.device_made.certificate(renewing)
    assert (second.serial != first.serial, second.again) == (True, False)
    # Its answer may be lost: until it is used, it is the one that answers, whoever asks.
    for worker, asks in ((one, renewing), (two, renewing), (two, wished)):
        found = await worker.device_made.certificate(asks)
        assert (found.serial, found.again) == (second.serial, True)
    third = await two.device_made.certificate(csr_wish(csr=wished.csr, renews=second.issuance_id))
    assert third.serial not in (first.serial, second.serial)
    assert len(ca.asked) == 3
    # Nothing else became of the others, and the key is still the one of its device.
    assert await rig.states() == ["delivered", "issued", "issued"]
    with pytest.raises(KeyTaken):
        await one.device_made.certificate(csr_wish("device-2", csr=wished.csr, renews=third.issuance_id))


async def test_two_workers_race_one_renewal_and_one_signature_is_made(rig: Workers, ca: ScriptedCa) -> None:
    one, two = await rig.worker("worker-1"), await rig.worker("worker-2")
    wished = csr_wish()
    first = await one.device_made.certificate(wished)
    renewing = csr_wish(csr=wished.csr, renews=first.issuance_id)
    racing = await asyncio.gather(*(worker.device_made.certificate(renewing) for worker in (one, two)))
    serials = {each.serial for each in racing}
    assert len(serials) == 1
    assert serials != {first.serial}
    assert len(ca.asked) == 2


async def test_a_renewal_that_a_worker_takes_ends_what_was_delivered_to_the_device_for_that_service_alone(
    rig: Workers, ca: ScriptedCa
) -> None:
    made = (await rig.worker()).device_made
    asked = {
        "due": csr_wish(),
        "custom": csr_wish(service="DLMS"),
        "another's": csr_wish("device-2"),
        "waits": csr_wish(),
    }
    before = {name: await made.certificate(each) for name, each in asked.items()}
    for name, certified in before.items():
        if name != "waits":
            await made.delivered(certified.issuance_id)
    enrollment = await certificate_enrollments.add(
        rig.database,
        OPERATOR,
        ACCOUNT,
        device_id=asked["due"].device_id,
        endpoint="device-1",
        certificate_name="LWM2M",
        method="bootstrap",
        seconds=600,
    )
    # Asked for is not taken yet.
    assert (await made.certificate(asked["due"])).again
    (taken,) = await certificate_enrollments.take(rig.database, "worker-1", [enrollment])
    assert (taken.worker, taken.endpoint, taken.version) == ("worker-1", "device-1", 2)
    after = {name: await made.certificate(each) for name, each in asked.items()}
    assert {name for name in asked if after[name].serial != before[name].serial} == {"due"}
    assert (await made.certificate(asked["due"])).serial == after["due"].serial
    # What another worker took is taken once.
    assert await certificate_enrollments.take(rig.database, "worker-2", [enrollment]) == []
    assert (await made.certificate(asked["due"])).serial == after["due"].serial


# -- the same key ----------------------------------------


async def test_another_csr_for_a_key_under_way_joins_when_it_asks_for_the_same_names(
    rig: Workers, ca: ScriptedCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = asyncio.Event()

    def same_names(one: x509.CertificateSigningRequest, other: x509.CertificateSigningRequest) -> bool:
        compared.set()
        return csr.same_names(one, other)

    monkeypatch.setattr(device_made, "same_names", same_names)
    gate = ca.on_issue = Gate(ca.signs)
    worker, key = await rig.worker(), ec.generate_private_key(ec.SECP256R1())
    one, other = csr_wish(key=key), csr_wish(key=key)
    assert one.csr_sha256 != other.csr_sha256
    first = asyncio.create_task(worker.device_made.certificate(one))
    await gate.reached.wait()
    second = asyncio.create_task(worker.device_made.certificate(other))
    await compared.wait()
    with pytest.raises(Conflict):
        await worker.device_made.certificate(csr_wish(key=key, unit="another"))
    gate.open.set()
    assert (await first).chain == (await second).chain
    assert len(ca.asked) == 1


async def test_a_key_may_be_certified_again_for_its_endpoint_and_for_no_other(rig: Workers, ca: ScriptedCa) -> None:
    worker, key = await rig.worker(), ec.generate_private_key(ec.SECP256R1())
    first = await worker.device_made.certificate(csr_wish(key=key))
    renewed = await worker.device_made.certificate(csr_wish(key=key))
    assert first.serial != renewed.serial
    for endpoint in ("device-2", "device-3"):
        with pytest.raises(KeyTaken):
            await worker.device_made.certificate(csr_wish(endpoint, key=key))
    assert len(ca.asked) == 2
    assert await rig.rows("device-2") == []


async def test_one_key_may_have_a_certificate_of_each_service(rig: Workers, ca: ScriptedCa) -> None:
    gate = ca.on_issue = Gate(ca.signs)
    worker, wished = await rig.worker(), csr_wish()
    asked = [
        asyncio.create_task(worker.device_made.certificate(csr_wish(csr=wished.csr, service=service)))
        for service in ("LWM2M", "DLMS")
    ]
    await until(lambda: asyncio.sleep(0, len(ca.asked) == 2))
    gate.open.set()
    assert len({each.serial for each in await asyncio.gather(*asked)}) == 2


# -- a CA that takes its time ----------------------------------------


async def test_a_ca_that_outlasts_the_exchange_is_asked_once_and_its_answer_is_found(
    rig: Workers, ca: ScriptedCa
) -> None:
    gate = ca.on_issue = Gate(ca.signs)
    worker = await rig.worker()
    wished = csr_wish(hold_seconds=0.05, retry_after=7.0)
    for _ in range(3):
        with pytest.raises(StillAsking) as later:
            await worker.device_made.certificate(wished)
        assert later.value.retry_after == 7.0
    gate.open.set()
    await until(lambda: has_state(rig, "issued"))
    certified = await worker.device_made.certificate(wished)
    assert is_for(certified, wished.csr)
    assert len(ca.asked) == 1


async def test_without_any_hold_the_ca_is_not_waited_for_and_what_is_known_is_told(
    rig: Workers, ca: ScriptedCa
) -> None:
    gate = ca.on_issue = Gate(ca.signs)
    one, two = await rig.worker("worker-1"), await rig.worker("worker-2")
    wished = csr_wish(hold_seconds=0.0, retry_after=7.0)
    for worker in (one, one, two):
        with pytest.raises(StillAsking):
            await worker.device_made.certificate(wished)
    gate.open.set()

    async def given() -> bool:
        # Who comes back while the first try is not quite over hears once more that it is early.
        with contextlib.suppress(ComeAgain):
            return is_for(await one.device_made.certificate(wished), wished.csr)
        return False

    await until(given)
    certified = await one.device_made.certificate(wished)
    assert (certified.again, is_for(certified, wished.csr)) == (True, True)
    # The record knows this too.
    with pytest.raises(KeyTaken):
        await one.device_made.certificate(csr_wish("device-2", csr=wished.csr, hold_seconds=0.0))
    assert len(ca.asked) == 1


async def test_a_pending_request_is_collected_and_not_made_again(rig: Workers, ca: ScriptedCa) -> None:
    ca.on_issue = ca.takes_its_time
    gate = ca.on_collect = Gate(ca.hands_out)
    worker, wished = await rig.worker(), csr_wish(hold_seconds=0.05)
    with pytest.raises(StillAsking):
        await worker.device_made.certificate(wished)
    await gate.reached.wait()
    assert (await rig.row()).state == "pending"
    gate.open.set()
    await until(lambda: has_state(rig, "issued"))
    assert (await worker.device_made.certificate(wished)).again
    assert ca.signed_once
    assert len(ca.asked) == 1


async def test_how_long_an_exchange_is_held_and_when_to_come_back_follow_from_the_ca(
    rig: Workers, ca: ScriptedCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_made, "PATIENCE_STEP", 0.01)
    worker = await rig.worker()
    latencies = worker.issuance.attempts.latencies
    await worker.device_made.certificate(csr_wish(hold_seconds=None))
    issuer = (await rig.row()).issuer_id
    # It answered at once.
    assert latencies.hold(issuer) == 10.0
    for _ in range(40):
        latencies.observe(issuer, 40.0)
    assert (latencies.hold(issuer), latencies.retry_after(issuer, 10.0)) == (60.0, 30.0)
    gate = ca.on_issue = Gate(ca.signs)
    slow = csr_wish("device-2", hold_seconds=None)
    asking = asyncio.create_task(worker.device_made.certificate(slow))
    await gate.reached.wait()
    rig.clock.let_pass(20)
    await asyncio.sleep(0.1)
    assert not asking.done()
    rig.clock.let_pass(60)
    with pytest.raises(StillAsking) as later:
        await asking
    assert later.value.retry_after == 5.0
    gate.open.set()


# -- what a CSR that failed comes to ----------------------------------------


async def test_a_ca_that_is_away_is_asked_again_with_the_same_csr(rig: Workers, ca: ScriptedCa) -> None:
    ca.on_issue = in_turn(raises(Unavailable("refused")), ca.signs)
    worker, wished = await rig.worker(), csr_wish()
    with pytest.raises(Unavailable):
        await worker.device_made.certificate(wished)
    assert is_for(await worker.device_made.certificate(wished), wished.csr)
    assert await rig.states() == ["failed", "issued"]


async def test_a_csr_that_the_ca_refused_is_not_sent_again(rig: Workers, ca: ScriptedCa) -> None:
    ca.on_issue = raises(Rejected("not on the list"))
    worker, wished = await rig.worker(), csr_wish()
    for _ in range(2):
        with pytest.raises(Rejected, match="not on the list"):
            await worker.device_made.certificate(wished)
    assert len(ca.asked) == 1
    assert await rig.states() == ["refused"]


async def test_after_a_bad_certificate_the_same_csr_waits_an_hour(rig: Workers, ca: ScriptedCa) -> None:
    ca.on_issue = in_turn(raises(BadCertificate(Check.SUBJECT, "another name")), ca.signs)
    worker, wished = await rig.worker(), csr_wish()
    with pytest.raises(BadCertificate):
        await worker.device_made.certificate(wished)
    with pytest.raises(Unavailable) as later:
        await worker.device_made.certificate(wished)
    assert 3500 < (later.value.retry_after or 0) <= 3600
    rig.clock.let_pass(3601)
    assert is_for(await worker.device_made.certificate(wished), wished.csr)
    rows = await rig.rows()
    assert [(row.state, row.attempt) for row in rows] == [("bad", 1), ("issued", 2)]


async def test_nobody_asks_a_ca_that_is_not_ready(rig: Workers, ca: ScriptedCa) -> None:
    rig.register.active = None
    with pytest.raises(Misconfigured):
        await (await rig.worker()).device_made.certificate(csr_wish())
    assert await rig.rows() == []


# -- what may be delivered ----------------------------------------


async def test_a_revoked_certificate_is_not_given_out_again(rig: Workers, ca: ScriptedCa) -> None:
    worker, wished = await rig.worker(), csr_wish()
    certified = await worker.device_made.certificate(wished)
    await certificates.revoke(rig.database, OPERATOR, ACCOUNT, certified.issuance_id, "keyCompromise", rig.clock.now())
    with pytest.raises(NotAuthorized, match="revoked"):
        await worker.device_made.certificate(wished)


async def test_a_certificate_larger_than_its_device_stores_is_bad(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker()
    with pytest.raises(BadCertificate) as refused:
        await worker.device_made.certificate(csr_wish(limits=DeviceLimits(certificate_bytes=100)))
    assert refused.value.check is Check.SIZE
    assert await rig.states() == ["bad"]


async def test_ou_with_the_account_must_survive_at_the_ca(rig: Workers, ca: ScriptedCa) -> None:
    worker = await rig.worker()
    wished = csr_wish(unit=ACCOUNT.hex)
    assert is_for(await worker.device_made.certificate(wished), wished.csr)

    async def drops_it(request: IssueRequest) -> Issued:
        key = request.csr.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        usage = [(pki.key_usage("digital_signature"), True)]
        end = datetime.now(UTC) + timedelta(days=700)
        named = pki.make_certificate("device-2", ca.root, public_key=key, not_after=end, extensions=usage)
        leaf = named.certificate
        return Issued(leaf, (leaf,), "1")

    ca.on_issue = drops_it
    # Another unit than the account's may go.
    fleet = csr_wish("device-2", unit="fleet")
    assert is_for(await worker.device_made.certificate(fleet), fleet.csr)
    with pytest.raises(BadCertificate, match="OU"):
        await worker.device_made.certificate(csr_wish("device-2", unit=ACCOUNT.hex))


async def has_state(rig: Workers, state: str) -> bool:
    return await rig.states() == [state]
