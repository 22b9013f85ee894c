"""Subject templates: RFC 4514 in, names out, and nothing a device says can add an attribute."""

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import assume, given
from hypothesis import strategies as st

from issuers.errors import Misconfigured, Rejected
from issuers.subject import ATTRIBUTES, LONGEST, Subject, parse_subject, short_name, value_problem

ACCOUNT = "0123456789abcdef0123456789abcdef"

printable = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
values = st.text(printable, min_size=1, max_size=64)
# The library counts the bytes of a common name where RFC 5280 A.1 counts characters.
endpoints = values.filter(lambda text: len(text.encode()) <= 64)


def filled(template: str, *, endpoint: str = "dev", account: str = ACCOUNT, device: str = "") -> list[tuple[str, str]]:
    name = parse_subject(template).fill(endpoint=endpoint, account=account, device=device)
    return [(short_name(each.oid), str(each.value)) for each in name]


def told(make: Callable[[], Subject]) -> Subject | str:
    try:
        return make()
    except (Rejected, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def misread(template: str) -> str:
    with pytest.raises(Misconfigured) as raised:
        parse_subject(template)
    return raised.value.message


def unfit(template: str, **values: str) -> str:
    with pytest.raises(Rejected) as raised:
        filled(template, **values)
    return raised.value.message


def test_a_template_is_read_backwards_as_rfc_4514_says() -> None:
    """RFC 4514 2.1: the text begins with the last relative name of the sequence."""
    assert filled("CN={endpoint},OU={account},O=Acme,C=FI") == [
        ("C", "FI"),
        ("O", "Acme"),
        ("OU", ACCOUNT),
        ("CN", "dev"),
    ]


def test_every_attribute_can_be_written_by_its_short_name() -> None:
    others = [name for name in ATTRIBUTES if name not in ("CN", "C")]
    template = ",".join(["CN={endpoint}", "C=FI", *(f"{name}=x" for name in others)])
    assert dict(filled(template)) == {"CN": "dev", "C": "FI"} | dict.fromkeys(others, "x")


def test_an_attribute_may_mix_text_and_placeholders() -> None:
    assert filled("CN={endpoint},OU=fleet {account}/{device}", device="d1")[0] == ("OU", f"fleet {ACCOUNT}/d1")


def test_one_relative_name_may_have_several_attributes() -> None:
    name = parse_subject("CN={endpoint}+serialNumber=4711,O=Acme").fill(endpoint="dev", account=ACCOUNT)
    assert [len(rdn) for rdn in name.rdns] == [1, 2]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"Acme\, Inc", "Acme, Inc"),
        (r"a\+b\=c\"d\<e\>f\;g\\h", 'a+b=c"d<e>f;g\\h'),
        (r"\#1", "#1"),
        (r"\ two \ ", " two  "),
        (r"\C3\85bo", "Åbo"),
        ("Åbo", "Åbo"),
    ],
)
def test_the_escapes_of_rfc_4514_are_understood(written: str, meant: str) -> None:
    """RFC 4514 2.4 and 3."""
    assert filled(f"CN={{endpoint}},O={written}")[0] == ("O", meant)


@given(values)
def test_any_text_survives_being_escaped_into_a_template(value: str) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, value)])
    template = f"CN={{endpoint}},{name.rfc4514_string()}"
    # What stands for something else is no text.
    assume(not any(placeholder in value for placeholder in ("{endpoint}", "{account}", "{device}")))
    if "{" in value or "=#" in template:
        misread(template)
    else:
        assert filled(template) == [("O", value), ("CN", "dev")]


@given(endpoint=endpoints, account=values, device=values)
def test_no_value_can_add_or_change_another_attribute(endpoint: str, account: str, device: str) -> None:
    got = filled("CN={endpoint},OU={account},L={device},O=Acme", endpoint=endpoint, account=account, device=device)
    assert got == [("O", "Acme"), ("L", device), ("OU", account), ("CN", endpoint)]


@given(endpoint=endpoints)
def test_a_filled_name_survives_its_text_form(endpoint: str) -> None:
    name = parse_subject("CN={endpoint},O=Acme").fill(endpoint=endpoint, account=ACCOUNT)
    if "#" not in endpoint[:1]:
        assert x509.Name.from_rfc4514_string(name.rfc4514_string(), dict(ATTRIBUTES)) == name


@given(
    template=st.sampled_from(
        (
            "CN={endpoint}",
            "CN={endpoint},OU={account},L={device}",
            "CN={endpoint},OU=fleet {account},O=Acme",
            "CN={endpoint},O=Acme,C=FI",
            "CN={endpoint}+OU={account}",
            "serialNumber={device},CN={endpoint},ST=x",
        )
    ),
    texts=st.tuples(
        *[st.from_regex(r"[A-Za-z0-9._:-]{1,66}", fullmatch=True) | st.text(max_size=70) for _ in range(3)]
    ),
)
def test_a_subject_is_the_filled_name_in_bytes_and_as_text(template: str, texts: tuple[str, str, str]) -> None:
    """One that is put together from its bytes against the library's."""
    parsed = parse_subject(template)
    values = dict(zip(("endpoint", "account", "device"), texts, strict=True))
    assert told(lambda: parsed.subject(**values)) == told(lambda: Subject.of(parsed.fill(**values)))


def test_a_usual_subject_is_put_together_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(x509.Name, "public_bytes", None)
    subject = parse_subject("CN={endpoint},OU={account}").subject(endpoint="dev", account=ACCOUNT)
    assert subject.text == f"CN=dev,OU={ACCOUNT}"


def test_an_injected_attribute_stays_text() -> None:
    assert filled("CN={endpoint}", endpoint="x,O=Evil+L={device}") == [("CN", "x,O=Evil+L={device}")]


@given(st.text(max_size=60))
def test_no_template_raises_anything_but_misconfigured(template: str) -> None:
    try:
        names = filled(template)
    except Misconfigured as error:
        assert repr(template) in error.message  # noqa: PT017
    except Rejected:
        pass
    else:
        assert ("CN", "dev") in names


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_value_raises_anything_but_rejected(endpoint: str, device: str) -> None:
    try:
        names = filled("CN={endpoint},L={device}", endpoint=endpoint, device=device)
    except Rejected:
        return
    assert names == [("L", device), ("CN", endpoint)]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("CN={endpont}", "there is no {endpont}; did you mean {endpoint}?"),
        ("CN={endpoint},L={dev}", "did you mean {device}?"),
        ("CN={}", "there is no {}"),
        ("", "cannot be read"),
        ("endpoint", "cannot be read"),
        ("CN={endpoint", "cannot be read"),
        ("CN={endpoint},XX=1", "cannot be read"),
        ("CN={endpoint},DC=com", "from the attributes CN, OU, O, L, ST, C, serialNumber, emailAddress"),
        ("CN={endpoint},O=a\nb", "cannot be read"),
        ("CN={endpoint},O=#0c0141", "cannot be read"),
        ("CN={endpoint},C=FIN", "cannot be read"),
        ("O=Acme", "it needs CN={endpoint} once"),
        ("CN=fixed", "it needs CN={endpoint} once"),
        ("CN={endpoint},CN={endpoint}", "it needs CN={endpoint} once"),
        ("CN=x{endpoint}", "it needs CN={endpoint} once"),
    ],
)
def test_a_template_that_cannot_work_is_named_with_the_remedy(template: str, said: str) -> None:
    message = misread(template)
    assert said in message
    assert repr(template) in message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"endpoint": ""}, "the subject needs {endpoint}, which is not known for this device"),
        ({"device": ""}, "the subject needs {device}"),
        ({"account": ""}, "the subject needs {account}"),
        ({"endpoint": "x" * 65}, "CN of the subject is 65 characters long; 64 is the most it can hold"),
        ({"device": "x" * 129}, "L of the subject is 129 characters long; 128 is the most"),
        ({"endpoint": "a\nb"}, "CN of the subject holds characters that cannot be printed"),
        ({"endpoint": "a\0b"}, "cannot be printed"),
    ],
)
def test_a_value_that_does_not_fit_is_named(values: dict[str, str], said: str) -> None:
    template = "CN={endpoint},OU={account},L={device}"
    assert said in unfit(template, **{"endpoint": "dev", "account": ACCOUNT, "device": "d1", **values})


def test_values_may_be_as_long_as_rfc_5280_allows() -> None:
    got = filled("CN={endpoint},L={device}", endpoint="e" * 64, device="d" * 128)
    assert [len(value) for _, value in got] == [128, 64]


def test_the_upper_bounds_are_those_of_rfc_5280() -> None:
    """RFC 5280 A.1: ub-common-name, ub-organizational-unit-name, ub-locality-name."""
    assert {short_name(oid): longest for oid, longest in LONGEST.items()} == {"CN": 64, "OU": 64, "L": 128}
    assert value_problem(NameOID.ORGANIZATION_NAME, "x" * 64) == ""
    assert "64 is the most" in value_problem(NameOID.ORGANIZATION_NAME, "x" * 65)


def test_an_attribute_without_a_short_name_is_shown_as_numbers() -> None:
    assert short_name(NameOID.COMMON_NAME) == "CN"
    assert short_name(NameOID.TITLE) == "2.5.4.12"
