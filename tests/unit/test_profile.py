import contextlib
import re

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.content_format import WRITE_FORMATS
from lwm2m.paths import Path
from lwm2m.plan import OnError, Plan, SecurityPlan, ServerPlan
from lwm2m.registry import OBJECTS
from server.errors import ConfigurationError
from server.profile import (
    DEFAULT_SERVER_CERTIFICATE,
    SERVER_RESOURCES,
    Profile,
    ProfileError,
    default_profile,
    named_files,
    parse_profile,
)
from tests import pki

CA = pki.make_factory_ca("Server Root")
FILES = {"server-ca.pem": CA.pem}

# The form that rigs rely on: a change here breaks them.
INTERFACE = """
[match]
endpoint = "*"
[bootstrap]
content_format = "auto"
discover = "auto"
delete = ["/0", "/1"]
[[security]]
id = "auto"
uri = "coaps://lwm2m.example.com:5684"
short_server_id = 123
mode = "server-key"
service = "LWM2M"
subject = "CN={endpoint}"
server_certificate_file = "server-ca.pem"
certificate_usage = 2
chain = "auto"
[[servers]]
short_server_id = 123
lifetime = 86400
binding = "U"
"""

MINIMAL = """
[[security]]
uri = "coaps://lwm2m.example.com"
short_server_id = 123
mode = "server-key"
server_certificate_file = "server-ca.pem"
[[servers]]
short_server_id = 123
"""


def parse(text: str, files: dict[str, bytes] = FILES) -> Profile:
    return parse_profile(text, files, name="mine")


def test_the_form_that_rigs_rely_on_says_what_is_written() -> None:
    profile = parse(INTERFACE)
    assert (profile.name, profile.endpoint, profile.trusted_certificate) == ("mine", "*", None)
    assert profile.ask == "before-accept"
    assert profile.plan == Plan(
        content_format="auto",
        discover="auto",
        delete=(Path(0), Path(1)),
        securities=(
            SecurityPlan(
                id=None,
                uri="coaps://lwm2m.example.com:5684",
                short_server_id=123,
                mode="server-key",
                service="LWM2M",
                subject="CN={endpoint}",
                server_certificate=CA.der,
                certificate_usage=2,
                chain="auto",
            ),
        ),
        servers=(ServerPlan(short_server_id=123, lifetime=86400, binding="U"),),
        on_error=OnError(delete="continue", write="stop"),
    )


def test_the_default_profile_is_that_form_with_the_uri_of_the_setting() -> None:
    profile = parse(default_profile("coaps://lwm2m.example.com:5684"), {DEFAULT_SERVER_CERTIFICATE: CA.pem})
    assert profile.plan == parse(INTERFACE).plan
    other = parse(default_profile('coaps://[::1]:1/"'), {DEFAULT_SERVER_CERTIFICATE: CA.pem})
    assert other.plan.securities[0].uri == 'coaps://[::1]:1/"'


def test_what_is_left_out_has_a_default_except_uri_server_certificate_mode_and_short_server_id() -> None:
    plan = parse(MINIMAL).plan
    assert (plan.content_format, plan.discover, plan.delete) == ("auto", "auto", (Path(0), Path(1)))
    assert plan.on_error == OnError()
    assert plan.securities[0].certificate_usage is None
    assert plan.servers == (ServerPlan(short_server_id=123),)


def test_every_choice_of_the_interface_is_taken() -> None:
    for format in ("auto", *WRITE_FORMATS):
        assert parse(f'[bootstrap]\ncontent_format = "{format}"\n{MINIMAL}').plan.content_format == format
    for discover in ("auto", "never", "required"):
        assert parse(f'[bootstrap]\ndiscover = "{discover}"\n{MINIMAL}').plan.discover == discover
    for mode in ("server-key", "est", "est-then-server-key", "psk"):
        assert parse(MINIMAL.replace("server-key", mode)).plan.securities[0].mode == mode
    nosec = parse(MINIMAL.replace("server-key", "nosec").replace("coaps://", "coap://"))
    assert nosec.plan.securities[0].mode == "nosec"
    for chain in ("auto", "leaf", "pem-chain"):
        text = MINIMAL.replace("[[servers]]", f'chain = "{chain}"\n[[servers]]')
        assert parse(text).plan.securities[0].chain == chain


def test_certificates_are_read_from_pem_and_der() -> None:
    der = CA.certificate.public_bytes(Encoding.DER)
    assert parse(MINIMAL, {"server-ca.pem": der}).plan == parse(MINIMAL).plan


def test_every_further_resource_of_a_server_can_be_set_by_its_name() -> None:
    text = MINIMAL + "\n".join(
        (
            "id = 7",
            "notification_storing = false",
            "default_minimum_period = 1",
            "bootstrap_on_registration_failure = false",
            'preferred_transport = "U"',
            "mute_send = true",
        )
    )
    (server,) = parse(text).plan.servers
    assert (server.id, server.notification_storing) == (7, False)
    assert server.optional == {2: 1, 16: False, 22: "U", 23: True}


def test_the_names_of_server_resources_are_those_of_the_registry() -> None:
    for key, id in SERVER_RESOURCES.items():
        row = OBJECTS[1].resources[id]
        assert not row.multiple
        words = re.findall(r"[a-z]+", row.name.lower())
        assert set(key.split("_")) <= set(words), (key, row.name)


def test_optional_security_keys_are_read() -> None:
    text = MINIMAL.replace(
        "[[servers]]", 'id = 3\nmatching_type = 1\nsni = "a.example"\nciphersuites = [49326]\n[[servers]]'
    )
    security = parse(text).plan.securities[0]
    assert (security.id, security.matching_type, security.sni) == (3, 1, "a.example")
    assert security.ciphersuites == (49326,)


# -- on_error and ask -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "on_error"),
    [
        ('on_error = "stop"', OnError(delete="stop", write="stop")),
        ('on_error = "continue"', OnError(delete="continue", write="continue")),
        ('on_error = "other-format"', OnError(delete="continue", write="other-format")),
        ("on_error = {}", OnError()),
        ('on_error = {write = "continue"}', OnError(delete="continue", write="continue")),
        ('on_error = {delete = "stop", write = "other-format"}', OnError(delete="stop", write="other-format")),
    ],
)
def test_on_error_is_one_word_or_one_for_each_operation(text: str, on_error: OnError) -> None:
    assert parse(f"[bootstrap]\n{text}\n{MINIMAL}").plan.on_error == on_error


def test_est_then_server_key_asks_after_the_accept() -> None:
    text = MINIMAL.replace("server-key", "est-then-server-key")
    assert parse(text).ask == "after-accept"
    with pytest.raises(ProfileError, match="after-accept"):
        parse(f'[bootstrap]\nask = "before-accept"\n{text}')
    assert parse(f'[bootstrap]\nask = "after-accept"\n{MINIMAL}').ask == "after-accept"


# -- what is wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[security", "is not valid TOML"),
        ("[boostrap]\n" + MINIMAL, "boostrap is unknown; did you mean bootstrap?"),
        ("[match]\nendpont = 'a'\n" + MINIMAL, "[match].endpont is unknown; did you mean endpoint?"),
        ("[bootstrap]\ndiscovery = 'auto'\n" + MINIMAL, "[bootstrap].discovery is unknown; did you mean discover?"),
        (
            "[bootstrap]\non_error = {writes = 'stop'}\n" + MINIMAL,
            "[bootstrap.on_error].writes is unknown; did you mean write?",
        ),
        (MINIMAL.replace("uri =", "url ="), "[[security]] 1.url is unknown; did you mean uri?"),
        (MINIMAL.replace("uri =", "sni ="), "[[security]] 1.uri is missing"),
        (
            MINIMAL.replace("[[servers]]", "cain = 'leaf'\n[[servers]]"),
            "[[security]] 1.cain is unknown; did you mean chain?",
        ),
        (MINIMAL + "life_time = 3\n", "[[servers]] 1.life_time is unknown; did you mean lifetime?"),
        (MINIMAL + "x = 3\n", "[[servers]] 1.x is unknown; did you mean"),
        (MINIMAL.replace("server-key", "serverkey"), "[[security]] 1.mode must be one of"),
        (MINIMAL.replace("server-key", "serverkey"), "did you mean server-key?"),
        (MINIMAL.replace("server-key", "X"), "est-then-server-key, psk, nosec, not 'X'"),
        ("[bootstrap]\ncontent_format = 'json'\n" + MINIMAL, "did you mean senml-json?"),
        ("[bootstrap]\ndelete = '/0'\n" + MINIMAL, "delete must be a list of texts"),
        ("[bootstrap]\ndelete = ['0']\n" + MINIMAL, "delete lists '0'"),
        ("[bootstrap]\ndelete = ['/0/0/1']\n" + MINIMAL, "only objects and instances can be deleted"),
        ("[bootstrap]\nask = 'now'\n" + MINIMAL, "[bootstrap].ask must be one of before-accept, after-accept"),
        ("[bootstrap]\non_error = 'retry'\n" + MINIMAL, "on_error must be one of stop, continue, other-format"),
        (
            "[bootstrap]\non_error = {delete = 'other-format'}\n" + MINIMAL,
            "[bootstrap.on_error].delete must be one of stop",
        ),
        ("bootstrap = 1\n" + MINIMAL, "bootstrap must be a table, written [bootstrap]"),
        ("security = 1", "security must be a list of tables, each written [[security]]"),
        ("", "security is missing"),
        ("[match]\nendpoint = ''\n" + MINIMAL, "[match].endpoint must be a text of printable characters"),
        ("[match]\nendpoint = 1\n" + MINIMAL, "not 1"),
        ("[match]\ntrusted_certificate = 'acme'\n" + MINIMAL, "must be the SHA-256 fingerprint"),
        (MINIMAL.replace("short_server_id = 123", "short_server_id = 0", 1), "a whole number of 1 to 65534, not 0"),
        (MINIMAL.replace("short_server_id = 123", "short_server_id = true", 1), "not True"),
        (MINIMAL.replace("short_server_id = 123\n", "", 1), "short_server_id is missing"),
        (MINIMAL + "lifetime = 1.5\n", "lifetime must be a whole number"),
        (MINIMAL + "mute_send = 1\n", "mute_send must be true or false"),
        (MINIMAL + "notification_storing = 'yes'\n", "notification_storing must be true or false"),
        (MINIMAL + "disable_timeout = -1\n", "disable_timeout must be a whole number"),
        (MINIMAL + "preferred_transport = 1\n", "preferred_transport must be a text"),
        (MINIMAL + "binding = 'UDP'\n", "binding must be letters of"),
        (MINIMAL + "id = 65535\n", "id must be a whole number of 0 to 65534"),
        (MINIMAL.replace("[[servers]]", "ciphersuites = [65536]\n[[servers]]"), "ciphersuites must be a list of"),
        (MINIMAL.replace("[[servers]]", "certificate_usage = 4\n[[servers]]"), "a whole number of 0 to 3, not 4"),
        (MINIMAL.replace("coaps://lwm2m.example.com", "coap://a"), "must start with coaps:// or coaps+tcp://"),
        (MINIMAL.replace("server-key", "nosec"), "must start with coap:// or coap+tcp:// for mode nosec"),
        (MINIMAL.replace("coaps://lwm2m.example.com", "lwm2m.example.com"), "with a host"),
        (MINIMAL.replace("coaps://lwm2m.example.com", "coaps://a:99999"), "is no URI"),
        (MINIMAL.replace("coaps://lwm2m.example.com", "coaps://" + "a" * 250), "at most 255"),
        (MINIMAL.replace("[[servers]]", "subject = 'CN={endpoint},OU={acount}'\n[[servers]]"), "{account}"),
        (MINIMAL.replace("[[servers]]", "subject = 'OU=a'\n[[servers]]"), "subject cannot be used"),
        (MINIMAL.replace("server-ca.pem", "other.pem"), "names 'other.pem', which was not given"),
        (MINIMAL.replace('server_certificate_file = "server-ca.pem"\n', ""), "server_certificate_file is missing"),
    ],
)
def test_what_is_wrong_is_named_with_its_key_and_the_remedy(text: str, said: str) -> None:
    with pytest.raises(ProfileError, match=re.escape(said)) as caught:
        parse(text)
    assert str(caught.value).startswith("profile mine: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificate"),
        (CA.pem + CA.pem, "holds 2 certificates"),
    ],
)
def test_a_server_certificate_file_holds_exactly_one_certificate(content: bytes, said: str) -> None:
    with pytest.raises(ProfileError, match=said):
        parse(MINIMAL, {"server-ca.pem": content})


SECOND_SECURITY = '[[security]]\nuri = "coap://b"\nshort_server_id = {ssid}\nmode = "nosec"\n{more}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINIMAL + SECOND_SECURITY.format(ssid=123, more=""), "security has one short_server_id twice"),
        (MINIMAL + "[[servers]]\nshort_server_id = 123\n", "servers has one short_server_id twice"),
        (MINIMAL + SECOND_SECURITY.format(ssid=7, more=""), "short_server_id 7 but no [[servers]] with it"),
        (MINIMAL + "[[servers]]\nshort_server_id = 7\n", "short_server_id 7 but no [[security]] with it"),
        (
            MINIMAL.replace("[[servers]]", "id = 4\n[[servers]]") + SECOND_SECURITY.format(ssid=7, more="id = 4\n"),
            "security has one id twice",
        ),
    ],
)
def test_what_no_device_could_accept_at_the_finish_is_refused(text: str, said: str) -> None:
    with pytest.raises(ProfileError, match=re.escape(said)):
        parse(text)


def test_a_server_alone_may_be_written_where_nothing_is_deleted() -> None:
    plan = parse("[bootstrap]\ndelete = []\n[[servers]]\nshort_server_id = 7\nlifetime = 60\n").plan
    assert plan.servers == (ServerPlan(short_server_id=7, lifetime=60),)


def test_a_profile_error_is_a_configuration_error() -> None:
    assert issubclass(ProfileError, ConfigurationError)


# -- files and match ---------------------------------------------------------------------------------------------


def test_the_files_a_profile_names_are_known_before_it_is_parsed() -> None:
    assert named_files(INTERFACE, name="mine") == ("server-ca.pem",)
    assert named_files("security = 3", name="mine") == ()
    with pytest.raises(ProfileError, match="is not valid TOML"):
        named_files("[", name="mine")


@pytest.mark.parametrize("written", ["AB" * 32, ":".join(["ab"] * 32), "sha256:" + "ab" * 32])
def test_a_fingerprint_may_be_written_as_tools_print_it(written: str) -> None:
    profile = parse(f'[match]\ntrusted_certificate = "{written}"\n{MINIMAL}')
    assert profile.trusted_certificate == "ab" * 32
    assert profile.matches("any", {"ab" * 32})
    assert not profile.matches("any", set())


TOML_VALUES = st.sampled_from(
    ['"auto"', '"x"', "1", "-1", "true", "[]", '["/0"]', "{}", "1.5", '"coaps://a"', "1979-05-27"]
)
KEYS = st.sampled_from(
    ["id", "uri", "mode", "short_server_id", "delete", "discover", "on_error", "endpoint", "binding", "subject", "zz"]
)
SECTIONS = st.sampled_from(["[match]", "[bootstrap]", "[[security]]", "[[servers]]", "[other]"])


@settings(deadline=None)
@given(st.lists(st.tuples(SECTIONS, st.dictionaries(KEYS, TOML_VALUES, max_size=4)), max_size=5))
def test_no_file_raises_anything_but_the_named_error(tables: list[tuple[str, dict[str, str]]]) -> None:
    text = "\n".join(
        line for section, keys in tables for line in (section, *(f"{key} = {value}" for key, value in keys.items()))
    )
    with contextlib.suppress(ProfileError):
        plan = parse(text).plan
        assert plan.securities or plan.servers
