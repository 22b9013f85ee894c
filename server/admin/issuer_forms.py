"""What an operator fills in to register a certificate issuer, and the rules of each field."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from issuers import ADAPTERS
from server import terms
from server.errors import BadRequest

LONGEST_NAME, LONGEST_DESCRIPTION = 50, 100
# Izuma publishes no length for attributes; a URL longer than this is a mistake.
LONGEST_ATTRIBUTE = 2000
LONGEST_REFERENCE = 100
REFERENCE = re.compile(r"(?!mbed\.)[\w.-]{1,100}", re.ASCII)
RESERVED = frozenset({"lwm2m", "bootstrap"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One attribute or credential of a CA type: `label` is what an operator reads."""

    name: str
    label: str
    required: bool = False
    longest: int = LONGEST_ATTRIBUTE
    hexadecimal: bool = False
    # What it is typed into: a line, a text of PEM, one of `choices`.
    pem: bool = False
    choices: tuple[str, ...] = ()
    # Few need it: forms show it below the others.
    further: bool = False
    # The rule that a value breaks, in words; empty when it breaks none.
    problem: Callable[[str], str] = lambda _value: ""
    # What it is, for whoever fills in a form.
    hint: str = ""
    # Other names it may come under.
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerForm:
    """What an operator gives to register a CA of one type."""

    label: str
    # What the test certificate of a verification costs there.
    test_costs: str = "perhaps one certificate of the CA account's quota"
    # Whether CAs of this type tell how many certificates are left.
    tells_quota: bool = False
    attributes: tuple[Setting, ...] = ()
    credentials: tuple[Setting, ...] = field(default=(), repr=False)


TERMS = (
    Setting(name="concurrency", label="Requests at once", further=True, problem=terms.concurrency_problem),
    Setting(name="rate", label="Requests a second", further=True, problem=terms.rate_problem),
    Setting(
        name="on_unknown",
        label="After a lost answer",
        further=True,
        choices=("reissue", "hold"),
        problem=terms.on_unknown_problem,
    ),
)
"""What every CA type has besides: on what terms this service asks it (`server/terms.py`)."""


def _true_or_false(text: str) -> str:
    return "" if text in ("true", "false") else "true or false"


FORMS: Mapping[str, IssuerForm] = MappingProxyType(
    {
        "CFSSL_AUTH": IssuerForm(
            label="CFSSL_AUTH",
            test_costs="nothing: CFSSL counts no certificates",
            attributes=(
                Setting(
                    name="host_url",
                    label="Host URL",
                    required=True,
                    hint="Where the CFSSL server listens, for instance https://cfssl.example.com:8888.",
                ),
                Setting(
                    name="cfssl_profile",
                    label="CFSSL profile",
                    hint="Under signing, profiles in the server's configuration; its default if empty.",
                ),
                Setting(
                    name="cfssl_label",
                    label="CFSSL label",
                    hint="Which signer of the server signs, where it has several (multirootca).",
                ),
                Setting(name="tls_roots", label="TLS roots (PEM)", longest=16384, pem=True, further=True),
                Setting(
                    name="bundle",
                    label="Ask for the chain with the certificate (true or false)",
                    choices=("true", "false"),
                    further=True,
                    problem=_true_or_false,
                ),
                *TERMS,
            ),
            credentials=(
                Setting(
                    name="hmac_hex_key",
                    label="HMAC Hex key",
                    required=True,
                    longest=64,
                    hexadecimal=True,
                    hint="From auth_keys in the server's configuration, as it stands there.",
                ),
                Setting(
                    name="client_certificate", label="Client certificate (PEM)", longest=16384, pem=True, further=True
                ),
                Setting(name="private_key", label="Private key (PEM)", longest=16384, pem=True, further=True),
            ),
        ),
        "GLOBAL_SIGN": IssuerForm(
            label="Global Sign",
            test_costs="one certificate of the account's quota",
            tells_quota=True,
            attributes=(
                Setting(name="base_url", label="Base URL", further=True),
                Setting(name="tls_roots", label="TLS roots (PEM)", longest=16384, pem=True, further=True),
                *TERMS,
            ),
            credentials=(
                Setting(
                    name="api_key",
                    label="Access key",
                    required=True,
                    longest=1000,
                    aliases=("access_key",),
                    hint="Received from GlobalSign.",
                ),
                Setting(
                    name="api_secret", label="API secret", required=True, longest=250, hint="Received from GlobalSign."
                ),
                Setting(
                    name="client_certificate",
                    label="Client certificate",
                    required=True,
                    longest=3000,
                    pem=True,
                    hint="The certificate that GlobalSign made for your public key.",
                ),
                Setting(
                    name="private_key",
                    label="Private key",
                    required=True,
                    longest=3000,
                    pem=True,
                    hint="The key that you generated and whose public half GlobalSign has.",
                ),
                Setting(name="passphrase", label="Passphrase", longest=1000, hint="Of the private key, if encrypted."),
            ),
        ),
    }
)
"""CA types an operator may register; the embedded CA is there without being registered."""


# Names of the settings that are secrets, of whichever type.
CREDENTIALS = frozenset(
    name for form in FORMS.values() for setting in form.credentials for name in (setting.name, *setting.aliases)
)


def check_name(name: str) -> None:
    """BadRequest unless the name of an issuer is 1 to 50 printable characters."""
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise BadRequest(
            f"a name has 1 to {LONGEST_NAME} printable characters and no blank at its ends, you gave {len(name)}",
            field="name",
        )


def check_description(description: str) -> None:
    """BadRequest when the description of an issuer is too long."""
    if len(description) > LONGEST_DESCRIPTION:
        raise BadRequest(
            f"a description has at most {LONGEST_DESCRIPTION} characters, you gave {len(description)}",
            field="description",
        )


def form_of(type: str) -> IssuerForm:
    """The form of a CA type; BadRequest lists the known ones."""
    form = FORMS.get(type)
    if form is None or type not in ADAPTERS:
        known = ", ".join(sorted(name for name in FORMS if name in ADAPTERS))
        raise BadRequest(f"there is no issuer type {type}; known are {known}", field="issuer_type")
    return form


def filled(settings: tuple[Setting, ...], given: Mapping[str, Any] | None, where: str) -> dict[str, str]:
    """`given` by its proper names, empty texts left out; BadRequest names the field, its label and the rule.

    Values are never repeated in a message: they may be secrets.
    """
    names = {alias: setting for setting in settings for alias in (setting.name, *setting.aliases)}
    found: dict[str, str] = {}
    for key, value in (given or {}).items():
        setting = names.get(key)
        if setting is None:
            known = ", ".join(setting.name for setting in settings) or "none"
            if key in CREDENTIALS and where == "issuer_attributes":
                raise BadRequest(
                    f"{key} is a credential, which nobody can read again; give it in issuer_credentials "
                    f"(`--secret-file {key}=FILE`)",
                    field=f"{where}.{key}",
                )
            raise BadRequest(f"{key} is not known for this issuer type; known are {known}", field=f"{where}.{key}")
        if value is None or value == "":
            continue
        place = f"{where}.{setting.name}"
        if setting.name in found:
            raise BadRequest(
                f"{setting.label}: comes twice, as {' and '.join((setting.name, *setting.aliases))}; give one",
                field=place,
            )
        if not isinstance(value, str):
            raise BadRequest(f"{setting.label}: must be a text", field=place)
        if len(value) > setting.longest:
            raise BadRequest(
                f"{setting.label}: at most {setting.longest} characters, you gave {len(value)}", field=place
            )
        if setting.hexadecimal:
            _check_hexadecimal(setting, value, place)
        if rule := setting.problem(value):
            raise BadRequest(f"{setting.label}: {rule}", field=place)
        found[setting.name] = value
    for setting in settings:
        if setting.required and setting.name not in found:
            raise BadRequest(f"{setting.label}: is missing; give it", field=f"{where}.{setting.name}")
    return found


def _check_hexadecimal(setting: Setting, value: str, place: str) -> None:
    if not all(character in "0123456789abcdefABCDEF" for character in value):
        raise BadRequest(f"{setting.label}: hexadecimal characters only (0-9, a-f)", field=place)
    if len(value) % 2:
        raise BadRequest(f"{setting.label}: even number of hexadecimal characters, you gave {len(value)}", field=place)


def check_reference(reference: str) -> None:
    """BadRequest unless `reference` may name a service of an operator's own."""
    if reference.lower() in RESERVED:
        raise BadRequest(f"the name {reference} is reserved, in any letter case; give another one", field="reference")
    if reference.lower().startswith("mbed."):
        raise BadRequest(
            "names that begin with mbed. are reserved, in any letter case; give another one", field="reference"
        )
    if REFERENCE.fullmatch(reference) is None:
        raise BadRequest(
            f"a service name has 1 to {LONGEST_REFERENCE} letters, digits, dots, underscores and hyphens",
            field="reference",
        )
