"""The stateless cookie."""

import hmac
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.transport.cookie import COOKIE_LENGTH, SLOT_SECONDS, CookieJar, shared_secret

SECRET = b"s" * 32


@given(st.binary(max_size=60), st.floats(0, 1e9), st.floats(0, SLOT_SECONDS))
def test_a_cookie_is_accepted_for_a_slot_at_least_also_by_another_worker(
    address: bytes, now: float, later: float
) -> None:
    cookie = CookieJar(SECRET).issue(address, now)
    assert len(cookie) == COOKIE_LENGTH
    assert CookieJar(SECRET).accepts(address, cookie, now + later)


@given(st.binary(min_size=16, max_size=60), st.binary(max_size=60), st.integers(0, 1 << 40))
def test_a_cookie_is_the_keyed_hash_of_the_address_under_the_key_of_the_slot(
    secret: bytes, address: bytes, slot: int
) -> None:
    key = hmac.digest(secret, slot.to_bytes(8, "big", signed=True), "sha256")
    jar, now = CookieJar(secret), slot * SLOT_SECONDS
    for _ in range(2):
        assert jar.issue(address, now) == blake2b(address, digest_size=32, key=key).digest()


def test_a_cookie_is_refused_two_slots_later_and_by_a_clock_that_went_back() -> None:
    jar = CookieJar(SECRET)
    cookie = jar.issue(b"a", 1000.0)
    assert jar.accepts(b"a", cookie, 1000.0)
    assert not jar.accepts(b"a", cookie, 1000.0 + 2 * SLOT_SECONDS)
    assert not jar.accepts(b"a", cookie, 1000.0 - SLOT_SECONDS)
    assert jar.accepts(b"a", cookie, 1000.0)


def test_a_cookie_of_another_address_or_secret_is_refused() -> None:
    jar = CookieJar(SECRET)
    cookie = jar.issue(b"192.0.2.1|1000", 5.0)
    assert not jar.accepts(b"192.0.2.1|1001", cookie, 5.0)
    assert not CookieJar(b"t" * 32).accepts(b"192.0.2.1|1000", cookie, 5.0)


def test_nodes_of_one_master_key_take_each_others_cookies_and_no_key_is_the_secret() -> None:
    one, other = shared_secret(b"k" * 32), shared_secret(b"l" * 32)
    assert CookieJar(shared_secret(b"k" * 32)).accepts(b"a", CookieJar(one).issue(b"a", 5.0), 5.0)
    assert not CookieJar(other).accepts(b"a", CookieJar(one).issue(b"a", 5.0), 5.0)
    assert one not in (other, b"k" * 32)


@given(st.binary(max_size=40))
def test_any_other_bytes_are_no_cookie(cookie: bytes) -> None:
    assert not CookieJar(SECRET).accepts(b"a", cookie, 5.0)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError):
        CookieJar(b"short")
