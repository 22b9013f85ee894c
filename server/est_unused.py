"""Devices that take mode 4 and never ask for a certificate: who is one, and what speaks against it (docs/est.md).

A device that does not know mode 4 should refuse it. Some take it, and the Finish, and are not heard of again until they
bootstrap anew. Where the profile permits a key made here (`est-then-server-key`), that is what such a device gets then.
"""

from collections.abc import Container
from dataclasses import replace
from datetime import datetime, timedelta

from lwm2m.bootstrap import BootstrapSession, Done, Failed
from lwm2m.plan import Learned, Plan
from server.policy import Admitted
from server.requester import Requester, may_enrol
from server.store import est_offers
from server.store.database import Database
from server.store.devices import DeviceRow
from server.store.est_offers import EstOffer, NoteOffer

# One may be a reboot between the Finish and the CSR.
ROUNDS = 2
# As `write_est_offers`.
CLOCKS_DIFFER = timedelta(hours=1)


def is_unused(offer: EstOffer | None, now: datetime) -> bool:
    """Whether mode 4 is lost on a device: it took it often enough, was waited for each time, and never asked."""
    if offer is None or offer.asked_at is not None or offer.offered_at is None or offer.waited_until is None:
        return False
    # A round that lies ahead is of a clock that was set back, and nobody knows when its time is over.
    waited = now >= offer.waited_until or now < offer.offered_at - CLOCKS_DIFFER
    return offer.rounds >= ROUNDS and waited


async def learned_of(database: Database, device: DeviceRow, plan: Plan, now: datetime) -> Learned:
    """What is known of a device that gets this plan. Where that does not fall back, the record is asked for no more."""
    learned = Learned.from_json(device.learned)
    if not plan.falls_back or learned.est_refused:
        # It may have been so under another profile.
        return replace(learned, est_unused=False) if learned.est_unused else learned
    offer = await est_offers.find(database, device.account_id, device.endpoint)
    return replace(learned, est_unused=is_unused(offer, now))


def after_bootstrap(
    admitted: Admitted, machine: BootstrapSession, verdict: Done | Failed, *, now: datetime, wait: float
) -> NoteOffer | None:
    """What a bootstrap that is over says of its device; its CSR is waited for `wait` seconds."""
    if machine.refused_mode_2:
        return NoteOffer(account_id=admitted.account_id, endpoint=admitted.endpoint)
    if not isinstance(verdict, Done) or not machine.took_mode_4:
        return None
    return NoteOffer(
        account_id=admitted.account_id,
        endpoint=admitted.endpoint,
        offered_at=now,
        waited_until=now + timedelta(seconds=wait),
        services=admitted.profile.plan.falls_back,
    )


def after_request(requester: Requester, service: str, services: Container[str], *, now: datetime) -> NoteOffer | None:
    """What a request for a certificate of `service` says of its device, before anybody knows what becomes of it.

    One for another of the account's `services` says nothing: an application may know EST where the LwM2M client does
    not. Nor does one with a pre-shared key that may not enrol: none is ever answered, and a key made here is all that
    such a device can have. A renewal shows that the device knows EST, and not that mode 4 makes it ask: the rounds
    begin anew.
    """
    offered = requester.profile.plan.falls_back
    if not offered or (service not in offered and service in services) or not may_enrol(requester):
        return None
    return NoteOffer(
        account_id=requester.account_id,
        endpoint=requester.endpoint,
        asked_at=None if requester.operational else now,
    )


def learned_json(device: DeviceRow, offer: EstOffer | None, now: datetime) -> str:
    """What was learned of a device, as it is shown."""
    return replace(Learned.from_json(device.learned), est_unused=is_unused(offer, now)).as_json()


def told(offer: EstOffer | None, now: datetime) -> str:
    """One sentence for people, empty where there is nothing to tell."""
    if offer is None:
        return ""
    if offer.asked_at is not None:
        return f"it asked for its certificate by EST, first at {offer.asked_at:%Y-%m-%d %H:%M:%S}Z"
    if offer.offered_at is None or offer.waited_until is None:
        return ""
    times = "a bootstrap" if offer.rounds == 1 else f"{offer.rounds} bootstraps"
    took = (
        f"it took mode 4 in {times}, last at {offer.offered_at:%Y-%m-%d %H:%M:%S}Z, and never asked for a certificate"
    )
    if is_unused(offer, now):
        return (
            f"{took}: where its profile is est-then-server-key it gets a key made here; forget it to try mode 4 again"
        )
    return f"{took}; waited for until {offer.waited_until:%Y-%m-%d %H:%M:%S}Z"
