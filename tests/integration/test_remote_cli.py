"""Both doors to the commands (design 3): through the record, and through the API of a running server."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from cryptography import x509

from server.cli import commands
from server.cli.remote import commands as remote
from tests.integration.doors import Doors, file, in_order
from tests.integration.field import SHORT, Field, opened, profile
from tests.integration.service import firstlight
from tests.issuers.peers.proxy import tls
from tests.issuers.peers.sockets import server_context
from tests.pki import make_certificate, make_factory_ca, make_server_certificate

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    async with opened(tmp_path_factory.mktemp("remote")) as started:
        await started.bootstrapped("lamp-1", "meter-1")
        yield started


FAILED = (
    r"Warning: its last verification failed at 2\d{3}-\d\d-\d\d \d\d:\d\d:\d\dZ: .*takes no connections.*; "
    r"mend what that says, then verify it again \(`firstlight issuer verify plant`\)\."
)


@pytest.fixture
def doors(field: Field) -> Doors:
    return Doors(field)


async def test_what_needs_a_person_is_told_through_either_door_and_is_an_exit_code(field: Field, doors: Doors) -> None:
    assert (await doors.local("status")).startswith("All clear, checked at 2")
    assert await doors.local("status", "--json") == ""
    file(field, "short.pem", make_factory_ca("Over", not_after=datetime.now(UTC) - timedelta(days=1)).pem)
    await doors.local("trust", "add", str(field.folder / "short.pem"), "--service", "bootstrap", "--name", "short")
    for door in (doors.local, doors.remote):
        said = (await door("status", code=1)).splitlines()
        assert said[0] == "FAULT      The trusted certificate short has ended"
        assert re.fullmatch(r" {11}It is valid until .* UTC, since 2.*Z\.", said[1])
        assert said[2] == f"{'':<11}Next: upload its successor as a trusted certificate beside it."
        (finding,) = (json.loads(line) for line in (await door("status", "--json", code=1)).splitlines())
        assert (finding["kind"], finding["severity"]) == ("ca_certificate_expiring", "fault")
    await doors.local("trust", "remove", "short")


async def test_a_ca_is_registered_switched_and_removed_from_afar_with_an_audit_row_each(
    field: Field, doors: Doors
) -> None:
    key = file(field, "hmac.txt", "0123456789ABCDEF")
    words = ("--type", "CFSSL_AUTH", "--set", "host_url=http://127.0.0.1:9", "--secret-file", f"hmac_hex_key={key}")
    for door in (doors.remote, doors.local):
        # Asked first it is not there, and nothing is kept.
        assert "takes no connections" in await door("issuer", "add", "plant", *words, "--check", code=1)
        # A label is what a form shows; whoever types commands needs the option.
        said = await door("issuer", "add", "plant", *words[:4], code=1)
        assert "HMAC Hex key: is missing; give it (`--secret-file hmac_hex_key=FILE`)" in said
        said = await door("issuer", "add", "plant", *words[:4], "--set", "hmac_hex_key=00", code=1)
        assert "hmac_hex_key is a credential" in said
        assert "`--secret-file hmac_hex_key=FILE`" in said
    assert "plant is registered" in await doors.remote("issuer", "add", "plant", *words)
    changed = ("issuer", "set", "plant", "--set", "rate=7", "--check")
    for door in (doors.remote, doors.local):
        assert "nothing was changed" in await door(*changed, code=1)
    await doors.remote("issuer", "set", "plant", "--set", "rate=5", "--description", "far away")
    shown = json.loads(await doors.remote("issuer", "show", "plant", "--json"))
    assert shown["attributes"] == {"host_url": "http://127.0.0.1:9", "rate": "5"}
    for door in (doors.remote, doors.local):
        said = await door("issuer", "list", "--json")
        assert [row["state"] for row in in_order(said) if row["name"] == "plant"] == ["not verified yet"]
        assert "it was never verified: nobody knows" in await door("issuer", "activate", "plant")
    said = await doors.remote("issuer", "verify", "plant", code=1)
    assert "takes no connections" in said
    assert "reach" in said
    for door in (doors.remote, doors.local):
        # It is done, as the CA may be back, and what is known is said.
        activated = (await door("issuer", "activate", "plant")).splitlines()
        assert activated[0] == "plant signs for LWM2M."
        assert re.fullmatch(FAILED, activated[1])
        assert len(activated) == 2
    assert "is active for LWM2M; activate another one there first" in await doors.remote(
        "issuer", "remove", "plant", code=1
    )
    for door, name in ((doors.remote, "customer.x"), (doors.local, "customer.y")):
        said = await door("service", "add", name, "--issuer", "plant")
        assert f"plant signs for {name}." in said
        assert re.search(FAILED, said)
    await doors.local("service", "remove", "customer.y")
    for words in (("issuer", "list", "--json"), ("service", "list", "--json")):
        assert await doors.remote(*words) == await doors.local(*words), words
    states = {row["name"]: row["state"] for row in in_order(await doors.local("issuer", "list", "--json"))}
    assert states["embedded CA"] == "ready"
    assert re.fullmatch(r"verification failed 2\d{3}-.*Z: .*takes no connections.*", states["plant"])
    assert (await doors.remote("issuer", "deactivate")).strip() == "The embedded CA signs for LWM2M."
    assert "`firstlight issuer deactivate --service customer.x`" in await doors.remote(
        "issuer", "remove", "plant", code=1
    )
    await doors.remote("service", "remove", "customer.x")
    assert (
        "plant is removed; what it issued stays valid, and can be revoked only at the CA itself."
        in await doors.remote("issuer", "remove", "plant")
    )
    row = (await doors.audit())[0]
    assert (row["action"], row["subject"], row["actor_kind"]) == ("certificate_issuer.removed", "plant", "api")
    assert len(row["request_id"]) == 32


async def test_lists_say_the_same_through_both_doors(field: Field, doors: Doors) -> None:
    chain = make_factory_ca("Far Factory").pem + make_factory_ca("Far Factory 2").pem
    trusted = await doors.remote(
        "trust", "add", file(field, "far.pem", chain), "--service", "bootstrap", "--name", "far"
    )
    assert trusted.count("Trusted for bootstrap: far ") == 2
    await doors.remote("trust", "deny", "far 1")
    lines = file(field, "keys.txt", "".join(f"far-{n}:{n:032x}:far-{n}\n" for n in range(3)))
    assert "3 keys are added for bootstrap." in await doors.remote("psk", "add", "--from", lines)
    toml = file(field, "far.toml", profile("far-*"))
    file(field, "server-ca.pem", Path(field.service.ready["server_ca_file"]).read_bytes())
    assert "Profile far is set, for endpoints far-*." in await doors.remote("profile", "set", "far", toml)
    assert (await doors.remote("api-key", "add", "night", "--role", "reader")).startswith("ak_")
    for words in (
        ("trust", "list"),
        ("psk", "list"),
        ("profile", "list"),
        ("api-key", "list"),
        ("device", "list"),
        ("device", "list", "--state", "failed"),
        ("device", "list", "--after", "lamp-1", "--limit", "1"),
        ("device", "seen"),
        ("certificate", "list"),
        ("certificate", "list", "--endpoint", "meter-1"),
    ):
        theirs, ours = await doors.remote(*words, "--json"), await doors.local(*words, "--json")
        assert in_order(theirs) == in_order(ours), words
        # As a table too.
        assert sorted((await doors.remote(*words)).split()) == sorted((await doors.local(*words)).split()), words
    theirs, ours = [
        json.loads(await door("device", "explain", "far-1", "--json")) for door in (doors.remote, doors.local)
    ]
    # Samples are made anew each time, and signatures differ in length.
    assert [step.pop("bytes") for step in theirs["operations"]].count(None) == 4
    assert [step.pop("bytes") for step in ours["operations"]].count(None) == 4
    assert theirs == ours
    assert await doors.remote("profile", "show", "far") == await doors.local("profile", "show", "far")
    for words in (
        ("trust", "remove", "far 1"),
        ("trust", "remove", "far 2"),
        ("psk", "remove", "far-0"),
        ("profile", "remove", "far"),
        ("api-key", "remove", "night"),
    ):
        assert "removed" in await doors.remote(*words)


async def test_an_operator_is_made_changed_and_removed_from_afar(field: Field, doors: Doors) -> None:
    password = file(field, "password.txt", "a-long-enough-one\n")
    assert "Aino may sign in" in await doors.remote("operator", "add", "Aino", "--password-file", password)
    assert "Eino may sign in" in await doors.local(
        "operator", "add", "Eino", "--role", "reader", "--password-file", password
    )
    theirs, ours = [await door("operator", "list", "--json") for door in (doors.remote, doors.local)]
    assert in_order(theirs) == in_order(ours)
    assert {row["name"]: row["role"] for row in in_order(theirs)} == {"Aino": "operator", "Eino": "reader"}
    short = file(field, "short.txt", "short")
    for door in (doors.remote, doors.local):
        for words in (("add", "Outi"), ("password", "Aino")):
            assert "12 to 200 characters" in await door("operator", *words, "--password-file", short, code=1), words
        for words in (("remove", "Outi"), ("password", "Outi", "--password-file", password)):
            assert "there is no operator Outi" in await door("operator", *words, code=1), words
    assert "new password" in await doors.remote("operator", "password", "Eino", "--password-file", password)
    for name in ("Aino", "Eino"):
        assert "no longer sign in" in await doors.remote("operator", "remove", name)
    assert await doors.remote("operator", "list") == await doors.local("operator", "list")
    assert [(row["action"], row["actor_kind"]) for row in await doors.audit()] == [("operator.removed", "api")] * 2


async def test_what_a_profile_names_and_is_not_there_is_said_through_both_doors(field: Field, doors: Doors) -> None:
    rows = in_order(await doors.local("trust", "list", "--json"))
    [factory] = [row for row in rows if row["fingerprint"] == sha256(field.factory.der).hexdigest()]
    [root] = [row for row in rows if row["service"] == "lwm2m"]
    file(field, "server-ca.pem", Path(field.service.ready["server_ca_file"]).read_bytes())

    def naming(word: str, security: str = "") -> str:
        text = profile("odd-*", security=security).replace("[match]", f'[match]\ntrusted_certificate = "{word}"')
        return file(field, "odd.toml", text)

    for door in (doors.remote, doors.local):
        for word, why in (
            (factory["fingerprint"][::-1], "is no trusted certificate, so that no device would get this profile"),
            (root["fingerprint"], "is trusted for lwm2m, and devices come with certificates of service bootstrap"),
            (root["id"], "is trusted for lwm2m"),
        ):
            assert why in await door("profile", "set", "odd", naming(word), code=1)
        for word in (factory["id"], factory["fingerprint"].upper()):
            said = await door("profile", "set", "odd", naming(word))
            assert said.startswith("Profile odd is set, for endpoints odd-*.\n")
            # What every bootstrap with it would find is said now.
            assert (
                "Warning: [[security]] 1: the server certificate is that of a CA, but without certificate_usage" in said
            )
            assert "no CA is configured" not in said
            assert "denied" not in said
        said = await door("profile", "set", "odd", naming(factory["id"], 'service = "NoSuch"'))
        assert "Warning: no CA is configured for the service NoSuch: its devices get no certificate for it" in said
        await door("service", "add", "NoSuch")
        said = await door("profile", "set", "odd", naming(factory["id"], 'service = "NoSuch"'))
        assert "no CA is configured" not in said
        said = await door("service", "remove", "NoSuch")
        assert (
            "The service NoSuch is removed.\nWarning: the profile odd names it: devices with it get no certificate"
            in said
        )
        await door("trust", "deny", factory["id"])
        said = await door("profile", "set", "odd", naming(factory["id"]))
        assert f"for devices that come with {factory['name']}, which is denied: they are refused" in said
        await door("trust", "activate", factory["id"])
        assert (await door("profile", "remove", "odd")).strip() == "Profile odd is removed."
        default = json.loads(await door("device", "list", "--limit", "1", "--json"))["profile"]
        text = file(field, "again.toml", await door("profile", "show", default))
        said = await door("profile", "remove", default)
        assert "Profile default is removed. No start makes it anew" in said
        # Nor any command, whichever door it comes by.
        assert f"there is no profile {default}" in await doors.local("profile", "show", default, code=1)
        assert "2 devices had it last: they get the next profile that matches, or none" in said
        await door("profile", "set", default, text)


async def test_a_state_that_no_device_is_in_is_refused(doors: Doors) -> None:
    for door in (doors.remote, doors.local):
        assert "bootstrapped" in await door("device", "list", "--state", "nonsense", code=2)


async def test_all_keys_of_a_file_or_none_through_both_doors(field: Field, doors: Doors) -> None:
    words = ("--key-file", file(field, "held.key", f"{2:032x}"), "--endpoint", "held-1")
    await doors.remote("psk", "add", "held-1", *words)
    lines = file(field, "taken.txt", f"new-1:{1:032x}:new-1\nheld-1:{2:032x}:held-1\nnew-2:{3:032x}:new-2\n")
    twice = file(field, "twice.txt", f"new-1:{1:032x}:new-1\n# again\nnew-1:{1:032x}:new-1\n")
    for door in (doors.remote, doors.local):
        said = await door("psk", "add", "--from", lines, code=1)
        assert "there is already a key with the identity held-1; none of the 3 keys was added" in said
        said = await door("psk", "add", "--from", twice, code=1)
        assert f"{twice}: line 3: the identity new-1 stands in line 1 already; leave one out" in said
        assert "new-" not in await doors.remote("psk", "list", "--json")
    for door, name in ((doors.remote, "afar"), (doors.local, "here")):
        many = file(field, f"{name}.txt", "".join(f"{name}-{n}:{n:032x}:{name}-{n}\n" for n in range(2000)))
        assert (await door("psk", "add", "--from", many)).strip() == "2000 keys are added for bootstrap."
        (row, *_) = await doors.audit()
        assert (row["action"], row["subject"]) == ("pre_shared_key.added", "2000 keys")


async def test_all_certificates_of_a_file_or_none_through_both_doors(field: Field, doors: Doors) -> None:
    first, second = make_factory_ca("First"), make_factory_ca("Second")
    both, lone = file(field, "both.pem", first.pem + second.pem), file(field, "second.pem", second.pem)
    await doors.remote("trust", "add", lone, "--service", "bootstrap", "--name", "second")
    for door in (doors.remote, doors.local):
        said = await door("trust", "add", both, "--service", "bootstrap", code=1)
        assert "is already there for the service bootstrap, as second, active; none of the 2 certificates" in said
        assert "CN=First," not in await doors.remote("trust", "list", "--json")
    await doors.remote("trust", "remove", "second")
    for door in (doors.remote, doors.local):
        said = await door("trust", "add", both, "--service", "bootstrap", "--name", "plant")
        assert re.findall(r"^Trusted for bootstrap: (.*) \(", said, re.MULTILINE) == ["plant 1", "plant 2"]
        for name in ("plant 1", "plant 2"):
            assert "is removed" in await door("trust", "remove", name)


async def test_a_device_and_its_certificate_from_afar(field: Field, doors: Doors) -> None:
    shown = json.loads(await doors.remote("device", "show", "meter-1", "--json"))
    assert [session["outcome"] for session in shown["sessions"]] == ["succeeded"]
    local = json.loads(await doors.local("device", "show", "meter-1", "--json"))
    assert (shown["learned"], shown["est_offer"]) == (local["learned"], local["est_offer"]) == ("{}", None)
    told = await doors.remote("device", "show", "meter-1")
    assert "/0/1" in told
    serial = f"{int(shown['certificates'][0]['serial'], 16):x}"
    colons = int(serial, 16).to_bytes(20).hex(":")
    chain = await doors.remote("certificate", "show", serial)
    for door in (doors.remote, doors.local):
        assert await door("certificate", "show", serial) == await door("certificate", "show", colons) == chain
    assert "no transcript" in await doors.remote("device", "transcript", "meter-1", code=1)
    report, _ = await field.bootstrap("meter-2", refuses={"PUT /1/0": "4.05"}, patience=SHORT)
    assert not report.ok
    await field.over("meter-2")
    for form in ((), ("--text",)):
        words = ("device", "transcript", "meter-2", *form)
        assert await doors.remote(*words) == await doors.local(*words)
    assert "is forgotten" in await doors.remote("device", "forget", "meter-1")
    assert "waits for a person" in await doors.remote("device", "release", "meter-1", code=1)
    assert await doors.remote("device", "release", "--all") == "No device waits.\n"
    assert "is revoked" in await doors.remote("certificate", "revoke", serial, "--reason", "superseded")
    assert "revoked" in await doors.remote("certificate", "revoke", serial, code=1)
    assert "is removed" in await doors.remote("device", "forget", "meter-1", "--remove")
    assert "was never here" in await doors.remote("device", "show", "meter-1", code=1)


async def test_what_cannot_be_is_one_line(field: Field, doors: Doors) -> None:
    key = file(field, "wrong-key", "ak_wrong")
    http = field.service.ready["http"]
    for words, said in (
        (("--url", http, "--api-key-file", key), "this API key is not known"),
        (("--url", "http://127.0.0.1:9", "--api-key-file", key), "cannot be asked"),
        (("--url", "nonsense", "--api-key-file", key), "cannot be asked"),
    ):
        told = await firstlight("issuer", "list", *words, code=1)
        assert said in told
        assert told.count("\n") == 1
    # Given by mistake, another secret is neither sent nor shown.
    for number, secret in enumerate((field.factory.key_pem, "hush", "", "ak_1\nhush")):
        other = file(field, f"other-{number}", secret)
        told = await firstlight("issuer", "list", "--url", http, "--api-key-file", other, code=1)
        assert told.startswith(f"firstlight: {other} holds no API key")
        assert told.count("\n") == 1
        assert "hush" not in told
        assert "PRIVATE KEY" not in told
    known = field.service.ready["api_key_file"]
    before = await firstlight("--url", http, "--api-key-file", known, "issuer", "list")
    assert before == await firstlight("issuer", "list", "--url", http, "--api-key-file", known)
    assert "`db prune` has no way over the API" in await firstlight(
        "db", "prune", "--url", http, "--api-key-file", key, code=1
    )
    assert "api-key-file" in await firstlight("issuer", "list", "--url", http, code=2)


async def test_a_server_behind_a_ca_of_ones_own_is_reached_over_tls(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = make_factory_ca("Private TLS")
    trusted, other = file(field, "tls.pem", ca.pem), file(field, "other.pem", make_factory_ca("Other").pem)
    key = field.service.ready["api_key_file"]
    behind = urlsplit(field.service.ready["http"]).port
    assert behind is not None
    before = await firstlight("issuer", "list", "--url", field.service.ready["http"], "--api-key-file", key)
    shown = make_server_certificate(ca, x509.DNSName("localhost"))
    past = datetime.now(UTC) - timedelta(days=9)
    named = [(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)]
    ended = make_certificate("server", ca, not_before=past, not_after=past + timedelta(days=1), extensions=named)
    unknown = "the certificate it shows is not trusted: unable to get local issuer .* give that CA's certificate with"
    async with tls(behind, server_context(shown)) as port, tls(behind, server_context(ended)) as late:
        url = f"https://localhost:{port}"
        listed = ("issuer", "list", "--api-key-file", key)
        # Before the command too, and the system's own way.
        assert await firstlight(*listed, "--url", url, "--ca-file", trusted) == before
        assert await firstlight("--url", url, "--ca-file", trusted, *listed) == before
        with monkeypatch.context() as patched:
            patched.setenv("SSL_CERT_FILE", trusted)
            assert await firstlight(*listed, "--url", url) == before
        for words, said in (
            (("--url", url), unknown),
            (("--url", url, "--ca-file", other), unknown),
            (("--url", f"https://127.0.0.1:{port}", "--ca-file", trusted), "write --url with a name that stands in it"),
            (("--url", f"https://localhost:{late}", "--ca-file", trusted), "has expired.*renew it"),
            (("--url", url, "--ca-file", key), "holds no certificate in PEM or DER"),
            (("--url", url, "--ca-file", str(field.folder / "none")), "cannot be read"),
        ):
            told = await firstlight(*listed, *words, code=1)
            assert re.search(said, told), told
            assert told.count("\n") == 1, told


async def test_every_command_that_manages_has_both_doors() -> None:
    """What is missing on the far side is what works on files or folders of the server's own machine."""
    missing = set()
    far = {group.name: group.typer_instance for group in remote.app.registered_groups}
    for group in commands.app.registered_groups:
        words = {each.name for each in group.typer_instance.registered_commands}
        there = {each.name for each in far[group.name].registered_commands} if group.name in far else set()
        missing |= {f"{group.name} {word}" for word in words - there}
    assert {word for word in missing if word.split()[0] not in ("ca", "db")} == {
        # Reads a file and nothing else; waits on the record.
        "profile check",
        "device renew",
    }
