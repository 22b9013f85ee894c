"""The client's own rules of the bootstrap interface, which are not the standard's."""

import pytest
from aiocoap.numbers import codes

from simulators.izuma.account import MISSING_IEP, Account
from tests.unit.transport.certificates import make

SERVER_CA = make("Server Root", ca=True).der
URI = b"coaps://lwm2m.example.com:5684?aid=" + b"a" * 32
BOOTSTRAP = 1


def resource(number: int, value: bytes) -> bytes:
    """A TLV resource (type bits 11), with a length field as long as it needs."""
    size = len(value)
    if size < 8:
        return bytes([0xC0 | size, number]) + value
    width = 1 if size < 256 else 2
    return bytes([0xC0 | width << 3, number]) + size.to_bytes(width, "big") + value


def instance(number: int, body: bytes) -> bytes:
    return bytes([0x10, number]) + len(body).to_bytes(2, "big") + body


def security(*, uri: bytes = URI, mode: int = 4, certificate: bytes | None = None, **others: bytes) -> bytes:
    held = {0: uri, 1: b"\0", 2: bytes([mode]), 10: b"\x7b"}
    if mode in (2, 4):
        held[4] = SERVER_CA if certificate is None else certificate
    held.update({int(name.removeprefix("r")): value for name, value in others.items()})
    return b"".join(resource(number, value) for number, value in sorted(held.items()))


def account(**options: object) -> Account:
    made = Account(uri="coaps://bootstrap:5684", bootstrap=BOOTSTRAP, **options)  # type: ignore[arg-type]
    made.open = True
    return made


def write(held: Account, path: str, payload: bytes, number: int | None = 11542) -> codes.Code:
    answer = held.write(tuple(path.strip("/").split("/")), number, payload)
    return answer.code


# -- write --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [11542, 99])
@pytest.mark.parametrize("path", ["/0/0", "/0"])
def test_an_account_for_est_is_taken_as_resources_or_as_an_instance(path: str, number: int) -> None:
    held = account()
    payload = instance(0, security()) if path == "/0" else security()
    assert write(held, path, payload, number) == codes.CHANGED
    assert held.lwm2m is not None
    assert held.lwm2m[4] == SERVER_CA


@pytest.mark.parametrize("number", [None, 0, 42, 110, 112, 1542, 11543, 11544])
def test_only_tlv_is_taken(number: int | None) -> None:
    assert write(account(), "/0/0", security(), number) == codes.BAD_REQUEST


@pytest.mark.parametrize("path", ["/2/0", "/0/10", "/0/0/0", "/21/0", "/x"])
def test_other_paths_are_not_taken(path: str) -> None:
    assert write(account(), path, security()) == codes.BAD_REQUEST


def test_nothing_is_taken_before_the_request_is_answered() -> None:
    held = account()
    held.open = False
    assert write(held, "/0/0", security()) == codes.BAD_REQUEST
    assert held.delete(("0",)).code == codes.BAD_REQUEST
    assert held.finish(("bs",), ("iep=1",)).code == codes.BAD_REQUEST


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (security(r3=b"x"), "resource 3"),
        (security(r5=b"x"), "resource 5"),
        (security(certificate=b""), "no server certificate"),
        (security(certificate=b"-----BEGIN CERTIFICATE-----"), "no server certificate"),
        (security(certificate=b"\x30\x03\x02\x01\x00"), "/0/0/4"),
        (security(uri=b""), "no URI"),
        (security(mode=0), "mode 0"),
        (security(mode=1), "mode 1"),
        (security(mode=2), "lacks resource 3"),
        (security(mode=2, r3=b"x"), "lacks resource 5"),
        (security(mode=2, r3=b"x", r5=b"x", certificate=b""), "lacks resource 4"),
        (b"\xff", "/0/0"),
    ],
)
def test_an_account_that_cannot_be_used_fails_the_bootstrap_at_its_write(payload: bytes, words: str) -> None:
    answer = account().write(("0", "0"), 11542, payload)
    assert answer.code == codes.BAD_REQUEST
    assert words in str(answer.failure)


@pytest.mark.parametrize(
    "payload", [security(mode=3), security(mode=2, r3=b"x", r5=b"x"), security(r99=b"new"), security(r3=b"", r5=b"")]
)
def test_other_accounts_are_taken(payload: bytes) -> None:
    assert write(account(), "/0/0", payload) == codes.CHANGED


def test_all_instances_are_judged_after_each_write() -> None:
    held = account()
    # Both come in one write, and the second one is bad.
    answer = held.write(("0",), 11542, instance(0, security()) + instance(2, security(mode=0)))
    assert (answer.code, "/0/2" in str(answer.failure)) == (codes.BAD_REQUEST, True)


def test_the_bootstrap_account_may_only_be_replaced_by_one() -> None:
    held = account()
    assert write(held, f"/0/{BOOTSTRAP}", security()) == codes.BAD_REQUEST
    redirected = security(uri=b"coaps://elsewhere:5684", mode=2, r1=b"\1", r3=b"x", r5=b"x")
    assert write(held, f"/0/{BOOTSTRAP}", redirected) == codes.CHANGED


def test_a_client_built_without_enrolment_refuses_mode_4() -> None:
    answer = account(est=False).write(("0", "0"), 11542, security())
    assert answer.code == codes.BAD_REQUEST
    assert "without certificate enrolment" in str(answer.failure)


# -- delete -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [(), ("",), ("0",), ("0", "0")])
def test_delete_takes_the_account_and_leaves_the_bootstrap_server(path: tuple[str, ...]) -> None:
    held = account()
    assert write(held, "/0/0", security()) == codes.CHANGED
    assert held.delete(path).code == codes.DELETED
    assert held.lwm2m is None
    assert set(held.objects[0]) == {BOOTSTRAP}


def test_delete_of_the_server_object_clears_it() -> None:
    held = account()
    assert write(held, "/1/0", resource(0, b"\x7b") + resource(1, b"\0\0\x1c\x20")) == codes.CHANGED
    assert held.delete(("1",)).code == codes.DELETED
    assert held.objects[1] == {0: {}}


@pytest.mark.parametrize("path", [("1", "0"), ("0", "10"), ("2",), ("0", "0", "0"), ("0", str(BOOTSTRAP))])
def test_other_deletes_are_refused_and_fail_nothing(path: tuple[str, ...]) -> None:
    answer = account().delete(path)
    assert (answer.code, answer.failure) == (codes.BAD_REQUEST, None)


# -- finish -------------------------------------------------------------------------------------------------


def test_a_finish_names_the_device_and_its_account() -> None:
    held = account()
    write(held, "/0/0", security())
    assert held.finish(("bs",), ("iep=" + "d" * 32,)).code == codes.CHANGED
    assert held.finished is not None
    assert (held.finished.device_id, held.finished.account_id) == ("d" * 32, "a" * 32)
    assert held.finished.uses_est


@pytest.mark.parametrize("query", [(), ("iep=",), ("ep=dev-1",)])
def test_with_est_a_finish_without_a_device_id_is_refused_in_words(query: tuple[str, ...]) -> None:
    held = account()
    write(held, "/0/0", security())
    answer = held.finish(("bs",), query)
    assert (answer.code, answer.payload) == (codes.BAD_REQUEST, MISSING_IEP)
    assert answer.failure is not None


def test_without_est_a_finish_needs_no_device_id() -> None:
    held = account()
    write(held, "/0/0", security(mode=3))
    assert held.finish(("bs",), ()).code == codes.CHANGED


def test_a_finish_without_an_account_or_with_nobody_s_fails() -> None:
    assert "no LwM2M server" in str(account().finish(("bs",), ("iep=1",)).failure)
    held = account()
    write(held, "/0/0", security(uri=b"coaps://lwm2m.example.com:5684"))
    assert "names no account" in str(held.finish(("bs",), ("iep=1",)).failure)
    stored = account(account_id="f" * 32)
    write(stored, "/0/0", security(uri=b"coaps://lwm2m.example.com:5684"))
    assert stored.finish(("bs",), ("iep=1",)).code == codes.CHANGED


def test_a_build_for_standard_lwm2m_needs_no_ids() -> None:
    held = account(compliant=True)
    write(held, "/0/0", security(uri=b"coaps://lwm2m.example.com:5684"))
    assert held.finish(("bs",), ()).code == codes.CHANGED
    assert held.finished is not None
    assert (held.finished.device_id, held.finished.account_id) == ("", "")


@pytest.mark.parametrize(
    ("options", "path", "payload", "lost"),
    [
        ({}, "/0", instance(0, security()), ()),
        ({}, "/0/0", instance(0, security()), ()),
        ({}, "/0/0", security(), (3, 5, 12, 13, 14)),
        ({}, "/0/0", security(mode=2, r3=b"x", r5=b"x"), (12, 13, 14)),
        ({"compliant": True}, "/0/0", security(), (3, 5)),
        ({"compliant": True}, "/0/0", security(r3=b"", r5=b""), ()),
    ],
)
def test_what_a_write_of_resources_does_not_name_is_gone(
    options: dict[str, object], path: str, payload: bytes, lost: tuple[int, ...]
) -> None:
    held = account(**options)
    assert write(held, path, payload) == codes.CHANGED
    assert held.finish(("bs",), ("iep=1",)).code == codes.CHANGED
    assert held.finished is not None
    assert held.finished.lost == lost
    # An instance that is made anew has all of them.
    assert held.delete(("0",)).code == codes.DELETED
    assert write(held, "/0", instance(0, security())) == codes.CHANGED
    held.finish(("bs",), ("iep=1",))
    assert held.finished.lost == ()


def test_a_key_of_a_failed_enrolment_is_in_the_way_of_mode_4_until_something_takes_its_place() -> None:
    held = account()
    held.key_left = True
    answer = held.write(("0",), 11542, instance(0, security()))
    assert (answer.code, "key of an enrolment" in str(answer.failure)) == (codes.BAD_REQUEST, True)
    assert write(held, "/0", instance(0, security(r5=b"\0"))) == codes.CHANGED
    assert held.lwm2m is not None
    assert 5 not in held.lwm2m
    assert write(held, "/0", instance(0, security())) == codes.CHANGED


def test_a_finish_elsewhere_is_refused() -> None:
    assert account().finish(("bs", "x"), ("iep=1",)).code == codes.BAD_REQUEST
