"""Who takes mode 4 and never asks for a certificate: what a bootstrap and a request say of that (est_unused.py)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from lwm2m.bootstrap import Done, Failed, FailureCause, Learned
from lwm2m.bootstrap_request import BootstrapRequest
from lwm2m.coap import message as coap
from lwm2m.plan import Mode, OnWriteError
from lwm2m.steps import OperationKind
from server import est_unused
from server.est_unused import is_unused
from server.policy import Admitted
from server.profile import Profile, parse_profile
from server.requester import Requester
from server.store.devices import DeviceRow
from server.store.est_offers import EstOffer, NoteOffer
from tests import pki
from tests.unit.lwm2m.run import EST_FIRST, refuse, run

ACCOUNT = UUID("0123456789abcdef0123456789abcdef")
NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SERVICES = ("LWM2M", "DLMS")


def profile(mode: Mode = "est-then-server-key", service: str = "LWM2M") -> Profile:
    return parse_profile(
        f"""
        [[security]]
        uri = "coaps://a.example.com:5684"
        short_server_id = 1
        mode = "{mode}"
        service = "{service}"
        server_certificate_file = "ca.pem"
        [[servers]]
        short_server_id = 1
        """,
        {"ca.pem": pki.make_factory_ca().pem},
        name="default",
    )


def admitted(mode: Mode = "est-then-server-key") -> Admitted:
    return Admitted(
        account_id=ACCOUNT, endpoint="device-1", request=BootstrapRequest("device-1", None), profile=profile(mode)
    )


def asks(
    service: str = "LWM2M", *, of: Profile | None = None, holds: str | None = None, kind: str = "x509"
) -> NoteOffer | None:
    requester = Requester(
        account_id=ACCOUNT, endpoint="device-1", kind=kind, profile=of or profile(), izuma=False, holds=holds
    )
    return est_unused.after_request(requester, service, SERVICES, now=NOW)


# -- who is one ----------------------------------------

TWICE = EstOffer(rounds=2, offered_at=NOW - 120 * SECOND, waited_until=NOW)


@pytest.mark.parametrize(
    ("offer", "unused"),
    [
        (None, False),
        (EstOffer(), False),
        (EstOffer(rounds=1, offered_at=NOW - 120 * SECOND, waited_until=NOW), False),
        (EstOffer(rounds=2, offered_at=NOW - 119 * SECOND, waited_until=NOW + SECOND), False),
        (TWICE, True),
        (EstOffer(rounds=3, offered_at=NOW - 120 * SECOND, waited_until=NOW), True),
        (EstOffer(rounds=2, offered_at=NOW + 3599 * SECOND, waited_until=NOW + 3719 * SECOND), False),
        (EstOffer(rounds=2, offered_at=NOW + 3601 * SECOND, waited_until=NOW + 3721 * SECOND), True),
        (EstOffer(asked_at=NOW - 900 * SECOND), False),
        (EstOffer(rounds=2, offered_at=NOW, waited_until=NOW, asked_at=NOW), False),
    ],
)
def test_a_device_is_one_once_two_rounds_were_waited_for_and_it_never_asked(
    offer: EstOffer | None, unused: bool
) -> None:
    assert is_unused(offer, NOW) is unused


@pytest.mark.parametrize("mode", ["est", "server-key"])
async def test_the_record_is_asked_for_a_profile_that_falls_back_and_no_other(mode: Mode) -> None:
    """There is no database here to be asked."""
    row = DeviceRow(id=ACCOUNT, account_id=ACCOUNT, endpoint="device-1", learned='{"in_parts": true}')
    nowhere: object = None
    learned = await est_unused.learned_of(nowhere, row, profile(mode).plan, NOW)  # type: ignore[arg-type]
    assert learned == Learned(in_parts=True)
    row.learned = '{"est_refused": true}'
    learned = await est_unused.learned_of(nowhere, row, profile().plan, NOW)  # type: ignore[arg-type]
    assert learned == Learned(est_refused=True)


@pytest.mark.parametrize("mode", ["est", "server-key"])
async def test_what_was_so_under_another_profile_is_not_said_of_one_that_does_not_fall_back(mode: Mode) -> None:
    row = DeviceRow(id=ACCOUNT, account_id=ACCOUNT, endpoint="device-1", learned='{"est_unused": true}')
    nowhere: object = None
    learned = await est_unused.learned_of(nowhere, row, profile(mode).plan, NOW)  # type: ignore[arg-type]
    assert learned == Learned()


# -- what a bootstrap says ----------------------------------------


def test_a_bootstrap_with_mode_4_that_ends_well_is_a_round_and_waits() -> None:
    session = run(plan=EST_FIRST, credentials={}).session
    assert est_unused.after_bootstrap(admitted(), session, Done(), now=NOW, wait=120.0) == NoteOffer(
        account_id=ACCOUNT,
        endpoint="device-1",
        offered_at=NOW,
        waited_until=NOW + 120 * SECOND,
        services=frozenset({"LWM2M"}),
    )


def test_one_that_fails_or_writes_another_mode_is_none() -> None:
    lost = Failed(FailureCause.ASSOCIATION_LOST, "/bs", None)
    session = run(plan=EST_FIRST, credentials={}).session
    assert est_unused.after_bootstrap(admitted(), session, lost, now=NOW, wait=120.0) is None
    session = run(plan=EST_FIRST, credentials={}, learned=Learned(est_unused=True)).session
    assert est_unused.after_bootstrap(admitted(), session, Done(), now=NOW, wait=120.0) is None


@pytest.mark.parametrize(("on_error", "ends"), [("stop", Failed), ("continue", Done)])
def test_one_that_has_its_key_refused_is_counted_anew_however_it_ends(
    on_error: OnWriteError, ends: type[Done | Failed]
) -> None:
    """A device that takes mode 4 alone would be written mode 2 for good."""
    plan = replace(EST_FIRST, on_error=replace(EST_FIRST.on_error, write=on_error))
    refused = refuse(OperationKind.WRITE, *[coap.METHOD_NOT_ALLOWED] * 4)
    done = run(refused, plan=plan, credentials={}, learned=Learned(est_unused=True))
    assert isinstance(done.verdict, ends)
    said = est_unused.after_bootstrap(admitted(), done.session, done.verdict, now=NOW, wait=120.0)
    assert said == NoteOffer(account_id=ACCOUNT, endpoint="device-1")


# -- what a request says ----------------------------------------


def test_a_request_says_that_the_device_asks() -> None:
    assert asks() == NoteOffer(account_id=ACCOUNT, endpoint="device-1", asked_at=NOW)
    assert asks("DLMS", of=profile(service="DLMS")) is not None


def test_one_for_a_service_that_there_is_none_of_says_so_too() -> None:
    assert asks("lwm2m") == NoteOffer(account_id=ACCOUNT, endpoint="device-1", asked_at=NOW)


def test_one_for_another_service_says_nothing() -> None:
    assert asks("DLMS") is None


@pytest.mark.parametrize("mode", ["est", "server-key"])
def test_nothing_is_noted_of_devices_whose_profile_does_not_fall_back(mode: Mode) -> None:
    assert asks(of=profile(mode)) is None


@pytest.mark.parametrize(("may_enrol", "says"), [(False, False), (True, True)])
def test_one_with_a_pre_shared_key_says_something_where_the_profile_lets_it_enrol(may_enrol: bool, says: bool) -> None:
    """Where it does not, no request of that device is ever answered, and it would take mode 4 for good."""
    plain = profile()
    of = replace(plain, est=replace(plain.est, psk_enrolls=may_enrol))
    assert (asks(of=of, kind="psk") is not None) is says
    assert asks(of=of) is not None


def test_a_renewal_begins_the_rounds_anew_and_proves_nothing_for_good() -> None:
    assert asks(holds="LWM2M") == NoteOffer(account_id=ACCOUNT, endpoint="device-1")


# -- what people are told ----------------------------------------


@pytest.mark.parametrize(
    ("offer", "words"),
    [
        (None, ""),
        (EstOffer(), ""),
        (EstOffer(asked_at=NOW), "it asked for its certificate by EST, first at 2026-11-30 12:00:00Z"),
        (
            EstOffer(rounds=1, offered_at=NOW - 60 * SECOND, waited_until=NOW + 60 * SECOND),
            "it took mode 4 in a bootstrap, last at 2026-11-30 11:59:00Z, and never asked for a certificate; "
            "waited for until 2026-11-30 12:01:00Z",
        ),
        (
            TWICE,
            "it took mode 4 in 2 bootstraps, last at 2026-11-30 11:58:00Z, and never asked for a certificate: "
            "where its profile is est-then-server-key it gets a key made here; forget it to try mode 4 again",
        ),
    ],
)
def test_a_sentence_says_how_a_device_stands(offer: EstOffer | None, words: str) -> None:
    assert est_unused.told(offer, NOW) == words
