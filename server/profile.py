"""Profiles: the named TOML files that say what is written to which device.

The names of the keys are an interface; `docs/profiles.md` lists them. Everything wrong is said at once when a
profile is stored, never when a device is waiting.
"""

import fnmatch
import json
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from issuers.certificate import UNREADABLE
from lwm2m.errors import DecodeError
from lwm2m.objects import ResourceValue
from lwm2m.paths import MAX_ID, Path
from lwm2m.placement import SECURITY_OBJECT, SERVER_OBJECT
from lwm2m.plan import (
    ChainPolicy,
    DiscoverPolicy,
    FormatPolicy,
    Mode,
    OnDeleteError,
    OnError,
    OnWriteError,
    Plan,
    SecurityPlan,
    ServerPlan,
)
from lwm2m.registry import OBJECTS, ResourceType
from server.profile_est import KEYS, EstSettings, parse_est, subject_template
from server.profile_table import ProfileError, ProfileTable

__all__ = ["Ask", "Profile", "ProfileError", "default_profile", "named_files", "parse_profile"]

Ask = Literal["before-accept", "after-accept"]

DEFAULT_NAME = "default"
DEFAULT_SERVER_CERTIFICATE = "server-ca.pem"
"""The file that the default profile names; whoever stores that profile gives it."""

MAX_URI = 255
"""Characters of resource /0/x/0 (LwM2M Core 1.2 E.1)."""
MAX_SHORT_SERVER_ID = 65534
"""0 and 65535 are reserved (LwM2M Core 1.2 E.1, resource 10)."""
MAX_LIFETIME = 2**31 - 1
"""Seconds; clients keep a lifetime in 32 bits."""

_SECURE_SCHEMES = ("coaps", "coaps+tcp")
_PLAIN_SCHEMES = ("coap", "coap+tcp")
_BINDING = re.compile(r"[UMHTSNQ]{1,7}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}|[0-9a-f]{32}")

# Optional resources of the Server object that a profile may set, by their registry names (LwM2M Core 1.2 E.2).
SERVER_RESOURCES: Mapping[str, int] = {
    "default_minimum_period": 2,
    "default_maximum_period": 3,
    "disable_timeout": 5,
    "registration_priority_order": 13,
    "initial_registration_delay": 14,
    "registration_failure_block": 15,
    "bootstrap_on_registration_failure": 16,
    "communication_retry_count": 17,
    "communication_retry_timer": 18,
    "communication_sequence_delay_timer": 19,
    "communication_sequence_retry_count": 20,
    "trigger": 21,
    "preferred_transport": 22,
    "mute_send": 23,
    "default_notification_mode": 26,
    "profile_id_hash_algorithm": 27,
}

_SECTIONS = ("match", "bootstrap", "est", "security", "servers")
_MATCH_KEYS = ("endpoint", "trusted_certificate")
_BOOTSTRAP_KEYS = ("content_format", "discover", "delete", "on_error", "ask")
_ON_ERROR_KEYS = ("delete", "write")
_SECURITY_KEYS = (
    "id",
    "uri",
    "short_server_id",
    "mode",
    "service",
    "subject",
    "server_certificate_file",
    "certificate_usage",
    "matching_type",
    "sni",
    "ciphersuites",
    "chain",
)
_SERVER_KEYS = ("id", "short_server_id", "lifetime", "binding", "notification_storing", *SERVER_RESOURCES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One parsed profile: which devices it is for, when the CA is asked, the plan, and how EST serves them.

    `trusted_certificate` is the SHA-256 fingerprint or the id of a trusted certificate, lower-case hex.
    """

    name: str
    endpoint: str
    trusted_certificate: str | None
    ask: Ask
    plan: Plan
    est: EstSettings
    pattern: re.Pattern[str] = field(repr=False, compare=False)
    # As it was stored, for whoever wants to read it again elsewhere.
    toml: str = field(default="", repr=False, compare=False)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    def matches(self, endpoint: str, anchors: Collection[str]) -> bool:
        """Whether it is for `endpoint`, reached through trusted certificates of these fingerprints and ids."""
        if self.trusted_certificate is not None and self.trusted_certificate not in anchors:
            return False
        return self.pattern.fullmatch(endpoint) is not None

    @property
    def specificity(self) -> tuple[bool, bool, int]:
        """Sorts profiles: a whole endpoint name, then a trusted certificate, then the letters of the pattern."""
        wildcards = sum(self.endpoint.count(c) for c in "*?")
        return wildcards == 0, self.trusted_certificate is not None, len(self.endpoint) - wildcards


def default_profile(lwm2m_uri: str) -> str:
    """The text of the profile that exists from the first start; its file is DEFAULT_SERVER_CERTIFICATE."""
    # a JSON string is a TOML basic string
    return f"""\
[match]
endpoint = "*"

[bootstrap]
content_format = "auto"
discover = "auto"
delete = ["/0", "/1"]

[[security]]
id = "auto"
uri = {json.dumps(lwm2m_uri)}
short_server_id = 123
mode = "server-key"
service = "LWM2M"
subject = "CN={{endpoint}}"
server_certificate_file = "{DEFAULT_SERVER_CERTIFICATE}"
certificate_usage = 2
chain = "auto"

[[servers]]
short_server_id = 123
lifetime = 86400
binding = "U"
"""


def named_files(toml_text: str, *, name: str) -> tuple[str, ...]:
    """The files a profile names, to be stored beside it; raises ProfileError when it is no TOML."""
    securities = _document(toml_text, name).get("security", [])
    entries = securities if isinstance(securities, list) else []
    files = [entry.get("server_certificate_file") for entry in entries if isinstance(entry, dict)]
    return tuple(dict.fromkeys(file for file in files if isinstance(file, str)))


def parse_profile(toml_text: str, files: Mapping[str, bytes], *, name: str) -> Profile:
    """Read a profile; `files` holds the content of the files it names. Raises ProfileError."""
    document = ProfileTable(_document(toml_text, name), _SECTIONS, f"profile {name}", "")
    match = document.table("match", _MATCH_KEYS)
    bootstrap = document.table("bootstrap", _BOOTSTRAP_KEYS)
    on_error = _on_error(bootstrap)
    securities = tuple(_security(table, files) for table in document.tables("security", _SECURITY_KEYS))
    servers = tuple(_server(table) for table in document.tables("servers", _SERVER_KEYS))
    delete = tuple(_delete_path(bootstrap, text) for text in bootstrap.texts("delete", ("/0", "/1")))
    plan = Plan(
        content_format=bootstrap.choice("content_format", get_args(FormatPolicy), "auto"),
        discover=bootstrap.choice("discover", get_args(DiscoverPolicy), "auto"),
        delete=delete,
        securities=securities,
        servers=servers,
        on_error=on_error,
    )
    ask = _ask(bootstrap, securities)
    endpoint = match.text("endpoint", "*")
    profile = Profile(
        name=name,
        endpoint=endpoint,
        trusted_certificate=_trusted_certificate(match),
        ask=ask,
        plan=plan,
        est=parse_est(document.table("est", KEYS)),
        # fnmatch knows sets in brackets; endpoint names hold brackets of their own
        pattern=re.compile(fnmatch.translate(endpoint.replace("[", "[[]"))),
        toml=toml_text,
        files=files,
    )
    _fits_together(document, plan)
    return profile


def _document(toml_text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(toml_text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"profile {name}: is not valid TOML ({error}); mend that line") from error


def _on_error(bootstrap: ProfileTable) -> OnError:
    given = bootstrap.given("on_error")
    if not isinstance(given, dict):
        write = bootstrap.choice("on_error", get_args(OnWriteError), "stop")
        if given is None:
            return OnError()
        # another format means nothing to a delete
        return OnError(delete="stop" if write == "stop" else "continue", write=write)
    table = bootstrap.table("on_error", _ON_ERROR_KEYS)
    return OnError(
        delete=table.choice("delete", get_args(OnDeleteError), "continue"),
        write=table.choice("write", get_args(OnWriteError), "stop"),
    )


def _ask(bootstrap: ProfileTable, securities: Iterable[SecurityPlan]) -> Ask:
    falls_back = any(security.mode == "est-then-server-key" for security in securities)
    ask: Ask = bootstrap.choice("ask", get_args(Ask), "after-accept" if falls_back else "before-accept")
    if falls_back and ask == "before-accept":
        raise bootstrap.wrong(
            "ask", "must be after-accept with mode est-then-server-key: the device is asked first; remove the key"
        )
    return ask


def _trusted_certificate(match: ProfileTable) -> str | None:
    text = match.optional_text("trusted_certificate")
    if text is None:
        return None
    hex = text.lower().replace(":", "").removeprefix("sha256")
    if not _FINGERPRINT.fullmatch(hex):
        raise match.wrong(
            "trusted_certificate",
            f"must be the SHA-256 fingerprint (64 hexadecimal characters) or the id (32) of a trusted "
            f"certificate, not {text!r}",
        )
    return hex


def _delete_path(bootstrap: ProfileTable, text: str) -> Path:
    try:
        path = Path.parse(text)
    except DecodeError as error:
        raise bootstrap.wrong("delete", f'lists {text!r}, but {error}; write "/", "/0" or "/0/1"') from error
    if path.resource is not None:
        raise bootstrap.wrong(
            "delete", f'lists {text!r}, but only objects and instances can be deleted; write "/0" or "/0/1"'
        )
    return path


def _id(table: ProfileTable) -> int | None:
    return None if table.given("id") in (None, "auto") else table.integer("id", 0, MAX_ID)


def _security(table: ProfileTable, files: Mapping[str, bytes]) -> SecurityPlan:
    mode: Mode = table.choice("mode", get_args(Mode))
    chain: ChainPolicy = table.choice("chain", get_args(ChainPolicy), "auto")
    security = SecurityPlan(
        id=_id(table),
        uri=_uri(table, mode),
        short_server_id=table.integer("short_server_id", 1, MAX_SHORT_SERVER_ID),
        mode=mode,
        service=table.text("service", "LWM2M"),
        subject=subject_template(table),
        server_certificate=_server_certificate(table, files),
        certificate_usage=table.optional_integer("certificate_usage", 0, 3),
        matching_type=table.optional_integer("matching_type", 0, 3),
        sni=table.optional_text("sni"),
        ciphersuites=table.integers("ciphersuites", 0, 65535),
        chain=chain,
    )
    if security.uses_certificates and security.server_certificate is None:
        raise table.wrong(
            "server_certificate_file",
            f"is missing; mode {mode} needs the certificate of the LwM2M server or of its CA",
        )
    return security


def _uri(table: ProfileTable, mode: Mode) -> str:
    uri = table.text("uri")
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise table.wrong("uri", f"is no URI ({error}); write it like coaps://lwm2m.example.com:5684") from error
    if not host or len(uri) > MAX_URI or not uri.isascii() or " " in uri:
        raise table.wrong(
            "uri", f"must be a URI of at most {MAX_URI} ASCII characters with a host, like coaps://host:5684"
        )
    schemes = _PLAIN_SCHEMES if mode == "nosec" else _SECURE_SCHEMES
    if parts.scheme not in schemes:
        raise table.wrong("uri", f"must start with {' or '.join(f'{s}://' for s in schemes)} for mode {mode}")
    return uri


def _server_certificate(table: ProfileTable, files: Mapping[str, bytes]) -> bytes | None:
    key = "server_certificate_file"
    file = table.optional_text(key)
    if file is None:
        return None
    content = files.get(file)
    if content is None:
        raise table.wrong(key, f"names {file!r}, which was not given with the profile; put it beside the profile")
    try:
        if b"-----BEGIN" in content:
            certificates = x509.load_pem_x509_certificates(content)
        else:
            certificates = [x509.load_der_x509_certificate(content)]
    except UNREADABLE as error:
        raise table.wrong(
            key, f"names {file!r}, which holds no certificate in PEM or DER; give that of the LwM2M server or of its CA"
        ) from error
    if len(certificates) != 1:
        raise table.wrong(
            key, f"names {file!r}, which holds {len(certificates)} certificates; /0/x/4 takes one, leave that one"
        )
    return certificates[0].public_bytes(Encoding.DER)


def _server(table: ProfileTable) -> ServerPlan:
    binding = table.text("binding", "U")
    if not _BINDING.fullmatch(binding):
        raise table.wrong("binding", f'must be letters of U M H T S N Q, like "U", not {binding!r}')
    return ServerPlan(
        id=_id(table),
        short_server_id=table.integer("short_server_id", 1, MAX_SHORT_SERVER_ID),
        lifetime=table.integer("lifetime", 1, MAX_LIFETIME, 86400),
        binding=binding,
        notification_storing=table.flag("notification_storing", True),
        optional=_optional_resources(table),
    )


def _optional_resources(table: ProfileTable) -> dict[int, ResourceValue]:
    found: dict[int, ResourceValue] = {}
    for key, id in SERVER_RESOURCES.items():
        if table.given(key) is None:
            continue
        match OBJECTS[SERVER_OBJECT].resources[id].type:
            case ResourceType.BOOLEAN:
                found[id] = table.flag(key, False)
            case ResourceType.STRING:
                found[id] = table.text(key)
            case _:
                found[id] = table.integer(key, 0, MAX_LIFETIME)
    return found


def _fits_together(document: ProfileTable, plan: Plan) -> None:
    """Refuse a plan after which every device would have to answer the Finish with 4.06."""
    if not plan.securities and not plan.servers:
        raise document.wrong("security", "is missing; write [[security]] and [[servers]]")
    for key, entries in (("security", plan.securities), ("servers", plan.servers)):
        servers = [entry.short_server_id for entry in entries]
        if len(set(servers)) < len(servers):
            raise document.wrong(key, "has one short_server_id twice; give each server its own")
        fixed = [entry.id for entry in entries if entry.id is not None]
        if len(set(fixed)) < len(fixed):
            raise document.wrong(key, 'has one id twice; write id = "auto"')
    known = {security.short_server_id for security in plan.securities}
    written = {server.short_server_id for server in plan.servers}
    if _clears(plan, SECURITY_OBJECT) and (alone := written - known):
        raise document.wrong(
            "servers", f"has short_server_id {min(alone)} but no [[security]] with it; write one or do not delete /0"
        )
    if _clears(plan, SERVER_OBJECT) and (alone := known - written):
        raise document.wrong(
            "security", f"has short_server_id {min(alone)} but no [[servers]] with it; write one or do not delete /1"
        )


def _clears(plan: Plan, object: int) -> bool:
    return Path() in plan.delete or Path(object) in plan.delete
