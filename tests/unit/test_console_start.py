"""What the start page says of failures that are alike."""

from server.api.console.start import _group


def test_a_ca_that_was_away_and_so_was_not_asked_is_told_from_a_failure_before_any_ca() -> None:
    group = {"family": "default", "issuer": None, "certificate_issuer_id": None}
    assert _group({**group, "cause": "issuer_unavailable"})["unasked"] == "not asked again, as it was away"
    assert _group({**group, "cause": "endpoint_mismatch"})["unasked"] == "none asked"
