"""`docs/profiles.md` and the code name the same keys with the same defaults, and its example is a profile."""

import re
from pathlib import Path

import pytest

from lwm2m.pkcs7 import Order
from server import profile, profile_est
from server.profile import DEFAULT_SERVER_CERTIFICATE, Profile, default_profile, parse_profile
from tests import pki

TEXT = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| (.+) \|$", re.MULTILINE)
HEADING = re.compile(r"^##+ `(\[+[\w.]+\]+)`$", re.MULTILINE)
CA = pki.make_factory_ca("Server Root")

# Sections of a profile that differs from the defaults in nothing.
PLAIN = {
    "[match]": "",
    "[bootstrap]": "",
    "[bootstrap.on_error]": "",
    "[est]": "",
    "[[security]]": 'uri = "coaps://a.example.com"\nshort_server_id = 1\nmode = "server-key"\n'
    f'server_certificate_file = "{DEFAULT_SERVER_CERTIFICATE}"\n',
    "[[servers]]": "short_server_id = 1\n",
}


def documented() -> dict[str, dict[str, tuple[str, str]]]:
    """Section → key → (default, what it says)."""
    _, *parts = HEADING.split(TEXT)
    return {
        heading: {key: (default.strip(), said) for key, default, said in ROW.findall(body)}
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
    }


DOCUMENTED = documented()
DEFAULTS = [
    (section, key, default)
    for section, rows in DOCUMENTED.items()
    for key, (default, _) in rows.items()
    if default.startswith("`")
]


def parsed(sections: dict[str, str]) -> Profile:
    text = "".join(f"{heading}\n{body}" for heading, body in sections.items())
    return parse_profile(text, {DEFAULT_SERVER_CERTIFICATE: CA.pem}, name="x")


def test_every_known_key_is_documented_and_every_documented_key_is_known() -> None:
    assert {section: list(rows) for section, rows in DOCUMENTED.items()} == {
        "[match]": list(profile._MATCH_KEYS),
        "[bootstrap]": list(profile._BOOTSTRAP_KEYS),
        "[bootstrap.on_error]": list(profile._ON_ERROR_KEYS),
        "[est]": list(profile_est.KEYS),
        "[[security]]": list(profile._SECURITY_KEYS),
        "[[servers]]": list(profile._SERVER_KEYS),
    }


def test_every_section_is_documented() -> None:
    assert {heading.strip("[]").partition(".")[0] for heading in DOCUMENTED} == set(profile._SECTIONS)


@pytest.mark.parametrize(("section", "key", "default"), DEFAULTS)
def test_writing_a_default_changes_nothing(section: str, key: str, default: str) -> None:
    literal = default.strip("`")
    assert parsed({**PLAIN, section: f"{PLAIN[section]}{key} = {literal}\n"}) == parsed(PLAIN)


def test_a_key_that_is_not_written_by_default_adds_nothing() -> None:
    [security], [server] = parsed(PLAIN).plan.securities, parsed(PLAIN).plan.servers
    assert (security.certificate_usage, security.matching_type, security.sni) == (None, None, None)
    assert server.optional == {}
    silent = {key for key, (default, _) in DOCUMENTED["[[servers]]"].items() if default == "not written"}
    assert silent == set(profile.SERVER_RESOURCES)


@pytest.mark.parametrize("section", ["[[security]]", "[[servers]]"])
def test_a_key_without_a_default_must_be_written(section: str) -> None:
    needed = [key for key, (default, _) in DOCUMENTED[section].items() if default == "must be written"]
    assert needed
    for key in needed:
        lines = [line for line in PLAIN[section].splitlines(keepends=True) if not line.startswith(f"{key} ")]
        with pytest.raises(profile.ProfileError, match=f"{key} is missing"):
            parsed({**PLAIN, section: "".join(lines)})


def test_the_number_of_a_resource_is_the_one_that_is_written() -> None:
    for key, number in profile.SERVER_RESOURCES.items():
        assert DOCUMENTED["[[servers]]"][key][1].endswith(f"(resource {number})"), key


def test_the_example_is_the_default_profile() -> None:
    [example] = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    files = {DEFAULT_SERVER_CERTIFICATE: CA.pem}
    assert parse_profile(example, files, name="x") == parse_profile(
        default_profile("coaps://lwm2m.example.com:5684"), files, name="x"
    )


@pytest.mark.parametrize(
    ("key", "section"),
    [
        ("content_format", "[bootstrap]"),
        ("discover", "[bootstrap]"),
        ("mode", "[[security]]"),
        ("chain", "[[security]]"),
        ("client", "[est]"),
        ("answer", "[est]"),
        ("pkcs7_order", "[est]"),
        ("alternative_name", "[est]"),
    ],
)
def test_every_choice_is_named(key: str, section: str) -> None:
    choices = {
        "content_format": profile.FormatPolicy,
        "discover": profile.DiscoverPolicy,
        "mode": profile.Mode,
        "chain": profile.ChainPolicy,
        "client": profile_est.Client,
        "answer": profile_est.Answer,
        "pkcs7_order": Order,
        "alternative_name": profile_est.AlternativeName,
    }[key]
    said = DOCUMENTED[section][key][1]
    assert all(f"`{choice}`" in said for choice in choices.__args__)
