"""Who offers suites of both kinds and holds one credential: asked for the other at its next handshake."""

from server.store.errors import StoreUnavailable
from server.transport.engine import PreSharedKey, RefusalReason
from server.transport.preference import MOST_SOURCES, REMEMBERED_SECONDS, Preference
from tests.unit.transport.certificates import Pki
from tests.unit.transport.client import PSK_SUITES, X509_SUITES, Client, psk, psk_client
from tests.unit.transport.rig import ADDRESS, OTHER, Server

ALL_SUITES = f"{X509_SUITES}:{PSK_SUITES}"


def key_alone() -> Client:
    """A device with a pre-shared key whose library is told of no suites, as Mbed TLS 3."""
    return psk_client(suites=ALL_SUITES)


def certificate_alone(pki: Pki) -> Client:
    """A device with a certificate whose library offers keys that it has not, as Mbed TLS 2.16."""
    return Client(
        suites=ALL_SUITES, certificate=pki.device, intermediates=[pki.intermediate], identity=b"none", key=b""
    )


def reasons(server: Server) -> list[RefusalReason]:
    return [refusal.reason for refusal in server.refusals]


async def test_a_device_with_a_key_alone_that_was_asked_for_a_certificate_comes_in_the_next_time(pki: Pki) -> None:
    server = Server(pki.index, pki.server, keys=[psk()])
    assert not (await server.connect(key_alone())).up
    assert reasons(server) == [RefusalReason.NO_CERTIFICATE]
    assert not (await server.connect(key_alone(), OTHER)).up
    # From another port of the same address.
    again = await server.connect(key_alone(), (ADDRESS[0], ADDRESS[1] + 1))
    assert again.up
    assert server.uppers[0].association.peer.kind == "psk"


async def test_a_device_that_comes_each_week_fails_once_only(pki: Pki) -> None:
    server = Server(pki.index, pki.server, keys=[psk()])
    assert not (await server.connect(key_alone())).up
    for week in range(1, 4):
        server.loop.advance(REMEMBERED_SECONDS - 60)
        assert (await server.connect(key_alone(), (ADDRESS[0], ADDRESS[1] + week))).up


async def test_a_device_that_wakes_once_a_day_and_tries_once_comes_in_the_next_day(pki: Pki) -> None:
    server = Server(pki.index, pki.server, keys=[psk()])
    assert not (await server.connect(key_alone())).up
    # Its clock is none of the best, and it may miss a day.
    server.loop.advance(2 * 86400 + 600)
    assert (await server.connect(key_alone(), (ADDRESS[0], ADDRESS[1] + 1))).up


async def test_a_device_with_a_certificate_alone_comes_in_at_once(pki: Pki) -> None:
    server = Server(pki.index, pki.server)
    assert (await server.connect(certificate_alone(pki))).up
    assert server.uppers[0].association.peer.kind == "x509"


async def test_a_key_that_nobody_asked_for_first_says_nothing_of_others_behind_the_address(pki: Pki) -> None:
    server = Server(pki.index, pki.server, keys=[psk()])
    assert (await server.connect(psk_client(), (ADDRESS[0], 50000))).up
    assert (await server.connect(certificate_alone(pki), (ADDRESS[0], 50001))).up


async def test_a_certificate_does_not_prolong_what_is_remembered_of_the_address(pki: Pki) -> None:
    server = Server(pki.index, pki.server, keys=[psk()])
    assert not (await server.connect(key_alone(), (ADDRESS[0], 50000))).up
    server.loop.advance(REMEMBERED_SECONDS - 60)
    offers_no_key = Client(suites=X509_SUITES, certificate=pki.device, intermediates=[pki.intermediate])
    assert (await server.connect(offers_no_key, (ADDRESS[0], 50001))).up
    server.loop.advance(120)
    assert (await server.connect(certificate_alone(pki), (ADDRESS[0], 50002))).up


async def test_devices_of_both_kinds_behind_one_address_come_in_at_their_second_attempt(pki: Pki) -> None:
    server = Server(pki.index, pki.server, keys=[psk()])
    ports = iter(range(50000, 50010))
    assert not (await server.connect(key_alone(), (ADDRESS[0], next(ports)))).up
    assert not (await server.connect(certificate_alone(pki), (ADDRESS[0], next(ports)))).up
    server.loop.advance(40)
    assert (await server.connect(certificate_alone(pki), (ADDRESS[0], next(ports)))).up
    assert not (await server.connect(key_alone(), (ADDRESS[0], next(ports)))).up
    assert (await server.connect(key_alone(), (ADDRESS[0], next(ports)))).up


async def test_a_device_with_a_certificate_alone_that_begins_anew_is_asked_for_it(pki: Pki) -> None:
    """Its library gives up without a word, and the next attempt comes from the same port."""
    server = Server(pki.index, pki.server, keys=[psk()])
    assert not (await server.connect(key_alone(), (ADDRESS[0], 50000))).up
    waiting = certificate_alone(pki)
    held = server.deliver(waiting.start())
    assert server.deliver(waiting.receive(held[0]))
    assert server.endpoint.handshaking == 1
    # The attempt that takes its place still asks as before, and ends in silence too.
    other = certificate_alone(pki)
    held = server.deliver(other.start())
    assert server.deliver(other.receive(held[0]))
    assert (await server.connect(certificate_alone(pki), (ADDRESS[0], 50001))).up


async def test_a_wrong_identity_is_no_sign_of_a_missing_key(pki: Pki) -> None:
    server = Server(pki.index, pki.server, keys=[psk()])
    ports = iter(range(50000, 50010))
    assert not (await server.connect(key_alone(), (ADDRESS[0], next(ports)))).up
    assert not (await server.connect(psk_client(b"nobody", suites=ALL_SUITES), (ADDRESS[0], next(ports)))).up
    assert reasons(server) == [RefusalReason.NO_CERTIFICATE, RefusalReason.UNKNOWN_IDENTITY]
    assert (await server.connect(key_alone(), (ADDRESS[0], next(ports)))).up


async def test_a_record_that_is_away_is_no_sign_of_a_missing_key(pki: Pki) -> None:
    away = False

    async def look_up(_identity: bytes) -> PreSharedKey:
        if away:
            raise StoreUnavailable("away")
        return psk()

    server = Server(pki.index, pki.server, look_up=look_up)
    assert not (await server.connect(key_alone(), (ADDRESS[0], 50000))).up
    away = True
    assert not (await server.connect(key_alone(), (ADDRESS[0], 50001))).up
    server.loop.advance(120)
    assert server.endpoint.handshaking == 0
    away = False
    assert (await server.connect(key_alone(), (ADDRESS[0], 50002))).up


def test_it_is_remembered_for_a_week_from_the_last_time() -> None:
    preference = Preference()
    assert not preference.keys_first("192.0.2.1", 0.0)
    preference.had_no_certificate("192.0.2.1", 0.0)
    preference.had_no_certificate("192.0.2.1", 10.0)
    assert preference.keys_first("192.0.2.1", REMEMBERED_SECONDS + 9)
    assert not preference.keys_first("192.0.2.1", REMEMBERED_SECONDS + 10)
    assert not preference.keys_first("192.0.2.2", 20.0)
    preference.named_no_key("192.0.2.1")
    preference.named_no_key("192.0.2.1")
    assert not preference.keys_first("192.0.2.1", 20.0)


def test_what_anybody_can_make_it_remember_is_bounded() -> None:
    preference = Preference()
    for number in range(MOST_SOURCES + 2):
        preference.had_no_certificate(str(number), float(number))
    assert len(preference) == MOST_SOURCES
    assert not preference.keys_first("1", 10.0)
    assert preference.keys_first("2", 10.0)


def test_who_came_again_is_forgotten_after_those_who_did_not() -> None:
    preference = Preference()
    for number in range(MOST_SOURCES):
        preference.had_no_certificate(str(number), float(number))
    preference.had_no_certificate("1", MOST_SOURCES)
    assert preference.keys_first("0", MOST_SOURCES)
    for newer in ("a", "b"):
        preference.had_no_certificate(newer, MOST_SOURCES)
    assert len(preference) == MOST_SOURCES
    assert [preference.keys_first(each, MOST_SOURCES) for each in ("0", "1", "2", "3")] == [False, True, False, True]
