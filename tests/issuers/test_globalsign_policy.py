"""An HVCA validation policy turned into what we send, and into plain words when it cannot work.

Each rule of a policy is a test; that the stand-in's engine and GlobalSign's own client agree is in tests/interop.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuers.base import IssueRequest
from issuers.errors import Misconfigured, Rejected
from issuers.globalsign_policy import CLIENT_AUTH, LONGEST_PATH, Policy, _demanded
from issuers.globalsign_rules import LONGEST_VALUE, MOST_PATTERNS, in_list, matches
from tests.issuers.rigs import ACCOUNT, DEVICE, NOW, make_request

ENDPOINT = "urn:dev:os:0001"
OPTIONAL: Mapping[str, Any] = {"presence": "OPTIONAL", "format": ""}
SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
USAGES = {"static": False, "list": [CLIENT_AUTH, SERVER_AUTH], "mincount": 0, "maxcount": 2}


def policy(**parts: Any) -> dict[str, Any]:
    """A policy that lets everything through which a device may have, with `parts` in place of its own."""
    names = ("common_name", "country", "state", "locality", "organization", "email")
    units = {"static": False, "list": [".*"], "mincount": 0, "maxcount": 3}
    whole: dict[str, Any] = {
        "validity": {"secondsmin": 3600, "secondsmax": 63072000},
        "subject_dn": {**dict.fromkeys(names, OPTIONAL), "organizational_unit": units},
        "extended_key_usages": {"ekus": USAGES, "critical": False},
        "public_key": {"key_type": "ECDSA", "allowed_lengths": [256], "key_format": "PKCS10"},
        "public_key_signature": "FORBIDDEN",
    }
    return {**whole, **parts}


def subject(**rules: Any) -> dict[str, Any]:
    """The policy above with other rules for fields of the subject."""
    whole = policy()
    return {**whole, "subject_dn": {**whole["subject_dn"], **rules}}


def body(given: Mapping[str, Any], request: IssueRequest | None = None, latest: datetime | None = None) -> Any:
    return Policy(given).body(request or make_request(ENDPOINT), latest)


def problem(given: Mapping[str, Any]) -> str:
    """Why no CSR at all can be served; `body` says the same."""
    found = Policy(given).problem
    if found:
        with pytest.raises(Misconfigured) as raised:
            body(given)
        assert raised.value.message == found
    return found


def refused(given: Mapping[str, Any], kind: type[Misconfigured | Rejected], request: IssueRequest | None = None) -> str:
    with pytest.raises(kind) as raised:
        body(given, request)
    return raised.value.message


# -- the key ---------------------------------------------------------------------


@pytest.mark.parametrize("signature", ["FORBIDDEN", "OPTIONAL", "REQUIRED", None])
def test_pkcs10_sends_the_csr_and_no_signature_whatever_the_policy_says_of_it(signature: str | None) -> None:
    request = make_request(ENDPOINT)
    sent = body(policy(public_key_signature=signature), request)
    assert sent["public_key"] == request.csr.public_bytes(Encoding.PEM).decode().rstrip("\n")
    assert "public_key_signature" not in sent


@pytest.mark.parametrize("key_format", ["PKCS8", None])
@pytest.mark.parametrize("signature", ["FORBIDDEN", "OPTIONAL"])
def test_another_format_sends_the_bare_public_key(key_format: str | None, signature: str) -> None:
    request = make_request(ENDPOINT)
    keys = {"key_type": "ECDSA", "allowed_lengths": [256], "key_format": key_format}
    sent = body(policy(public_key=keys, public_key_signature=signature), request)
    pem = request.csr.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert sent["public_key"] == pem.decode().rstrip("\n")


@pytest.mark.parametrize("key_format", ["PKCS8", None])
def test_a_signature_that_only_the_device_could_make_is_misconfigured(key_format: str | None) -> None:
    keys = {"key_type": "ECDSA", "allowed_lengths": [256], "key_format": key_format}
    words = problem(policy(public_key=keys, public_key_signature="REQUIRED"))
    assert "only whoever holds the device's private key can do" in words
    assert "key format set to PKCS10" in words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key_type": "RSA"}, "takes RSA keys only and devices have ECDSA keys"),
        ({"allowed_lengths": [384, 521]}, "takes keys of 384, 521 bits and devices have 256"),
        ({"allowed_lengths": []}, "takes keys of no bits"),
    ],
)
def test_a_key_that_no_device_has_is_misconfigured(change: dict[str, Any], words: str) -> None:
    keys = {"key_type": "ECDSA", "allowed_lengths": [256], "key_format": "PKCS10", **change}
    assert words in problem(policy(public_key=keys))


def test_only_keys_on_p256_are_sent() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(make_request(ENDPOINT).csr.subject)
    request = make_request(ENDPOINT)
    object.__setattr__(request, "csr", csr.sign(key, hashes.SHA256()))
    assert "not on P-256" in refused(policy(), Rejected, request)


# -- the subject ------------------------------------------------------------------


def test_the_seven_fields_come_from_the_csr() -> None:
    every = "CN={endpoint},OU={account},O=Acme,L={device},ST=Uusimaa,C=FI,emailAddress=devices@acme.example"
    assert body(policy(), make_request(ENDPOINT, subject=every))["subject_dn"] == {
        "common_name": ENDPOINT,
        "organizational_unit": [ACCOUNT.hex],
        "organization": "Acme",
        "locality": DEVICE,
        "state": "Uusimaa",
        "country": "FI",
        "email": "devices@acme.example",
    }


@pytest.mark.parametrize("presence", ["FORBIDDEN", "STATIC"])
def test_a_field_that_is_static_or_forbidden_is_left_out(presence: str) -> None:
    rule = {"presence": presence, "format": "Acme" if presence == "STATIC" else ""}
    request = make_request(ENDPOINT, subject="CN={endpoint},O=Acme")
    assert body(subject(organization=rule), request)["subject_dn"] == {"common_name": ENDPOINT}


@pytest.mark.parametrize(("field", "short"), [("common_name", "CN="), ("locality", "L=")])
@pytest.mark.parametrize("presence", ["FORBIDDEN", "STATIC"])
def test_a_field_that_the_device_is_lost_without_may_not_be_left_out(field: str, short: str, presence: str) -> None:
    words = refused(subject(**{field: {"presence": presence, "format": "other"}}), Misconfigured)
    assert f"makes {field} {presence}, and the device needs {short}" in words
    assert "have it made OPTIONAL" in words


def test_a_static_field_with_the_very_value_is_left_to_the_ca() -> None:
    assert "common_name" not in body(subject(common_name={"presence": "STATIC", "format": ENDPOINT}))["subject_dn"]


@pytest.mark.parametrize("field", ["country", "state", "organization", "email"])
def test_required_without_a_value_is_misconfigured_and_names_the_field(field: str) -> None:
    words = refused(subject(**{field: {"presence": "REQUIRED", "format": ""}}), Misconfigured)
    assert f"requires {field} and the CSR has no" in words


@pytest.mark.parametrize("presence", ["REQUIRED", "OPTIONAL"])
def test_a_value_that_fails_the_rule_is_rejected_before_any_quota_is_used(presence: str) -> None:
    words = refused(subject(common_name={"presence": presence, "format": "^[a-zA-Z]*$"}), Rejected)
    assert f"CN={ENDPOINT} of the CSR does not match ^[a-zA-Z]*$" in words


@pytest.mark.parametrize("pattern", ["(?i)^x$", "^(a+)+$", r"\pL+", "[[:alpha:]]", "(", "a" * 300, "a*b*c*d*"])
def test_a_rule_that_cannot_be_judged_here_is_left_to_the_ca(pattern: str) -> None:
    sent = body(subject(common_name={"presence": "REQUIRED", "format": pattern}))
    assert sent["subject_dn"]["common_name"] == ENDPOINT


def test_no_pattern_makes_us_think_for_long() -> None:
    assert matches("^(a|aa)+$", "a" * LONGEST_VALUE + "b")
    assert matches("x", "y" * (LONGEST_VALUE + 1))
    # Nor does it when one looks whether it is one.
    assert matches("[" * 1_000_000, ENDPOINT)


def test_a_list_too_long_to_go_through_is_left_to_the_ca() -> None:
    assert not in_list({"list": ["x"] * MOST_PATTERNS}, ENDPOINT)
    assert in_list({"list": ["x"] * (MOST_PATTERNS + 1)}, ENDPOINT)


def test_the_name_of_a_field_does_not_grow_with_the_policy() -> None:
    [path] = _demanded({"a" * 500_000: {"b" * 500_000: "REQUIRED"}}, "")
    assert len(path) == LONGEST_PATH


def test_a_country_is_two_capital_letters() -> None:
    request = make_request(ENDPOINT, subject="CN={endpoint},C=FI")
    assert body(policy(), request)["subject_dn"]["country"] == "FI"
    rule = {"presence": "OPTIONAL", "format": "^SE$"}
    assert "C=FI of the CSR does not match ^SE$" in refused(subject(country=rule), Rejected, request)


@pytest.mark.parametrize(
    ("rule", "kind", "words"),
    [
        ({"static": False, "list": ["^sales$"], "mincount": 0, "maxcount": 1}, Rejected, "does not match ^sales$"),
        ({"static": False, "list": [".*"], "mincount": 2, "maxcount": 3}, Misconfigured, "requires 2 of"),
        ({"static": True, "list": ["sales"], "mincount": 1, "maxcount": 1}, Misconfigured, "STATIC"),
        ({"static": False, "list": [], "mincount": 0, "maxcount": 0}, Misconfigured, "FORBIDDEN"),
    ],
)
def test_list_rules_of_the_organizational_units(rule: Any, kind: Any, words: str) -> None:
    assert words in refused(subject(organizational_unit=rule), kind)


def test_too_many_units_are_rejected() -> None:
    request = make_request(ENDPOINT, subject="CN={endpoint},OU=a,OU=b,OU=c,OU=d")
    assert "takes 3 of" in refused(policy(), Rejected, request)


def test_a_static_unit_that_is_the_accounts_own_is_left_to_the_ca() -> None:
    rule = {"static": True, "list": [ACCOUNT.hex], "mincount": 1, "maxcount": 1}
    assert "organizational_unit" not in body(subject(organizational_unit=rule))["subject_dn"]


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ({"subject_dn": {"street_address": {"presence": "REQUIRED", "format": ""}}}, "subject_dn.street_address"),
        ({"san": {"other_names": {"static": False, "list": ["x"], "mincount": 1, "maxcount": 1}}}, "san.other_names"),
        ({"custom_extensions": {"1.2.3": {"presence": "REQUIRED", "format": ""}}}, "custom_extensions.1.2.3"),
    ],
)
def test_what_no_device_has_and_the_policy_requires_is_misconfigured(parts: Any, path: str) -> None:
    assert f"requires {path}, which a device's certificate does not have" in problem(policy(**parts))


# -- usages, signature ------------------------------------------------------------


def test_client_auth_is_asked_for_when_it_may_be() -> None:
    assert body(policy())["extended_key_usages"] == [CLIENT_AUTH]


@pytest.mark.parametrize("rule", [{**USAGES, "static": True}, {**USAGES, "list": [SERVER_AUTH]}, {}])
def test_client_auth_is_not_sent_where_it_may_not_be(rule: dict[str, Any]) -> None:
    assert "extended_key_usages" not in body(policy(extended_key_usages={"ekus": rule}))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"static": True, "list": [SERVER_AUTH], "mincount": 1, "maxcount": 1}, "without clientAuth"),
        ({"static": False, "list": [SERVER_AUTH], "mincount": 1, "maxcount": 1}, "does not allow clientAuth"),
        ({**USAGES, "mincount": 2}, "requires 2 extended key usages"),
    ],
)
def test_usages_that_no_device_could_live_with_are_misconfigured(rule: dict[str, Any], words: str) -> None:
    assert words in problem(policy(extended_key_usages={"ekus": rule}))


def test_a_required_signature_is_chosen_from_what_is_offered() -> None:
    rules = {
        "algorithm": {"presence": "REQUIRED", "list": ["RSA", "ECDSA"]},
        "hash_algorithm": {"presence": "REQUIRED", "list": ["SHA-1", "SHA-384", "SHA-256"]},
    }
    assert body(policy(signature=rules))["signature"] == {"algorithm": "ECDSA", "hash_algorithm": "SHA-256"}
    weak = {"hash_algorithm": {"presence": "REQUIRED", "list": ["SHA-1"]}}
    assert "wants signature.hash_algorithm to be SHA-1" in problem(policy(signature=weak))


# -- validity ---------------------------------------------------------------------


def test_without_a_wish_the_policy_says_how_long() -> None:
    assert body(policy())["validity"] == {"not_before": int(NOW.timestamp()), "not_after": 0}


def test_a_certificate_does_not_outlive_its_issuing_ca() -> None:
    latest = NOW + timedelta(days=30)
    assert body(policy(), latest=latest)["validity"]["not_after"] == int(latest.timestamp())
    assert body(policy(), latest=NOW + timedelta(days=5000))["validity"]["not_after"] == 0


def test_a_ca_that_ends_before_the_shortest_certificate_is_misconfigured() -> None:
    with pytest.raises(Misconfigured, match="ask GlobalSign for its new issuing CA"):
        body(policy(), latest=NOW + timedelta(minutes=1))


@pytest.mark.parametrize("days", [0.01, 731])
def test_a_wish_outside_the_policy_is_misconfigured(days: float) -> None:
    request = make_request(ENDPOINT, validity=timedelta(days=days))
    assert "are asked for and" in refused(policy(), Misconfigured, request)


@pytest.mark.parametrize(
    ("offset", "words"), [(-601, "601 s behind"), (121, "121 s ahead"), (-600, ""), (120, ""), (0, "")]
)
def test_the_clock_must_be_within_the_skew(offset: float, words: str) -> None:
    given = policy(validity={"not_before_negative_skew": 600, "not_before_positive_skew": 120})
    said = Policy(given).skew_problem(offset)
    assert (words in said) if words else said == ""


# -- what verify says of it -------------------------------------------------------


def cautions(given: Mapping[str, Any]) -> str:
    return "; ".join(Policy(given).cautions(("urn:imei:350000000000001", "device-0001"), ACCOUNT.hex))


def test_a_policy_as_it_should_be_gives_no_caution() -> None:
    assert cautions(policy()) == ""
    assert Policy(policy()).describe() == "takes P-256 keys as PKCS#10, valid for 730 days at most"


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"common_name": {"presence": "REQUIRED", "format": "^[a-zA-Z]*$"}}, "which a device named 'urn:imei:"),
        ({"locality": {"presence": "OPTIONAL", "format": "^[A-Z][a-z]+$"}}, "which the ids in L (of Izuma clients)"),
        ({"locality": {"presence": "FORBIDDEN", "format": ""}}, "locality cannot be set, and devices with L"),
        (
            {"organizational_unit": {"static": False, "list": ["^x$"], "mincount": 0, "maxcount": 1}},
            "which the account's id in OU does not",
        ),
        ({"country": {"presence": "REQUIRED", "format": ""}}, "country is REQUIRED"),
    ],
)
def test_what_will_hinder_some_devices_is_told_beforehand(rules: dict[str, Any], words: str) -> None:
    assert words in cautions(subject(**rules))


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"subject_dn": None, "validity": 5, "san": []},
        {"public_key": "EC"},
        {"public_key": {"allowed_lengths": "384"}},
    ],
)
def test_a_policy_of_another_shape_breaks_nothing(odd: dict[str, Any]) -> None:
    read = Policy(odd)
    assert read.describe()
    assert cautions(odd) == ""
    assert body(odd)["subject_dn"]["common_name"] == ENDPOINT
