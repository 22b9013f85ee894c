"""Intents that were not written: what their devices are told, and when they may come back (design 7)."""

from server.errors import DailyLimit, TemporarilyUnavailable
from server.store.issuance_operations import HeldBack, OpenIssuance

# Seconds that a device stays away which asked for more certificates than anybody needs.
TOO_MANY_RETRY = 3600.0
# And while a person decides (`on_unknown = hold`).
HOLD_RETRY_AFTER = 600.0
# And while another worker has no answer yet: it is there, or gives up, or is given up itself (a lease).
ANSWER_RETRY_AFTER = 15.0


def too_many(intent: OpenIssuance) -> DailyLimit:
    """What a device is told whose intent was not written because of those before it."""
    if intent.most is not None:
        return DailyLimit(
            f"it asked for {intent.most} certificates within 24 hours, the most that issuance.daily_csrs allows",
            TOO_MANY_RETRY,
        )
    return DailyLimit(all_of_a_day(intent.service, intent.most_made_here or 0), TOO_MANY_RETRY)


def all_of_a_day(service: str, most: int) -> str:
    """That a device had as many certificates with a key made here as it may have in a day."""
    return (
        f"it was issued {most} certificates of {service} with a key made here within 24 hours, the most that "
        "issuance.daily_bootstraps allows"
    )


def held_back(ca: str, intent: OpenIssuance, held: HeldBack) -> TemporarilyUnavailable:
    """What a device is told whose intent was not written because of earlier requests to the CA called `ca`."""
    if "submitted" in held.states:
        return TemporarilyUnavailable(
            f"an earlier request for {intent.endpoint} has no answer yet, and on_unknown of {ca} is hold",
            retry_after=ANSWER_RETRY_AFTER,
        )
    return TemporarilyUnavailable(
        f"nobody knows what became of an earlier request for {intent.endpoint}, and on_unknown of {ca} is "
        f"hold; look for it at the CA, then run `firstlight device release {intent.endpoint}`",
        retry_after=HOLD_RETRY_AFTER,
    )
