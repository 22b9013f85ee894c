"""GlobalSign's own client (globalsign/hvclient, a Go module) as a witness: it must get along with the HVCA stand-in,
and it must send what the adapter sends, so that stand-in and adapter are not merely wrong together.
"""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from issuers import open_issuer
from issuers.base import Issued, IssueRequest, Pending
from issuers.globalsign_policy import Policy
from simulators.atlas import Settings
from simulators.atlas_ca import write_credentials
from simulators.atlas_faults import Fault
from simulators.atlas_policy import DEFAULT_POLICY
from tests.issuers.peers.atlas import AtlasPeer, atlas_ca, running_atlas
from tests.issuers.rigs import LOOPBACK, make_request
from tests.programs import PATIENCE, required

SOURCE = Path(__file__).with_name("hvclient")
SUBJECT = {
    "common_name": "urn:dev:os:0001",
    "country": "FI",
    "state": "Uusimaa",
    "locality": "fedcba98765432100123456789abcdef",
    "organization": "Acme",
    "organizational_unit": ["0123456789abcdef0123456789abcdef"],
    "email": "devices@acme.example",
}
TEMPLATE = "CN={endpoint},OU={account},O=Acme,L={device},ST=Uusimaa,C=FI,emailAddress=devices@acme.example"
PKCS8_POLICY = {
    **DEFAULT_POLICY,
    "public_key": {"key_type": "ECDSA", "allowed_lengths": [256], "key_format": "PKCS8"},
}


async def finished(*command: str, given: bytes = b"", folder: Path | None = None) -> bytes:
    """What a program printed; the test fails with its complaint when it did not succeed."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(5 * PATIENCE):
            printed, complaint = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, complaint.decode(errors="replace")
    return printed


@pytest.fixture(scope="session")
def hvclient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built from our main.go and GlobalSign's module at the version and hash of go.sum."""
    program = tmp_path_factory.mktemp("hvclient") / "hvclient"
    asyncio.run(finished(required("go"), "build", "-mod=readonly", "-o", str(program), ".", folder=SOURCE))
    return program


def wish(not_before: datetime | None = None) -> IssueRequest:
    return make_request(subject=TEMPLATE, not_before=not_before or datetime.now(UTC).replace(microsecond=0))


def order(request: IssueRequest, do: str, **more: object) -> dict[str, object]:
    return {
        "do": do,
        "csr": request.csr.public_bytes(Encoding.PEM).decode(),
        "subject": SUBJECT,
        "client_auth": True,
        "not_before": int(request.not_before.timestamp()),
        "not_after": 0,
        **more,
    }


async def asked(program: Path, given: Mapping[str, object]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(await finished(str(program), given=json.dumps(given).encode()))
    return answer


async def at(
    program: Path, peer: AtlasPeer, folder: Path, do: str, request: IssueRequest | None = None, **more: object
) -> dict[str, Any]:
    """What hvclient gets from the stand-in."""
    write_credentials(folder, peer.atlas.ca, peer.url)
    config = json.loads((folder / "hvclient.json").read_text())
    # It reads the old encrypted form alone; the key's encryption is the adapter's matter.
    key = peer.atlas.ca.account.client.key
    (folder / "plain-key.pem").write_bytes(_plain(key))
    config["key_file"] = str(folder / "plain-key.pem")
    (folder / "hvclient.json").write_text(json.dumps(config))
    places = {"config": str(folder / "hvclient.json"), "roots": str(folder / "tls-root.pem")}
    return await asked(program, order(request or wish(), do, **places, **more))


def _plain(key: Any) -> bytes:
    plain: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return plain


# -- the stand-in, by the vendor's client -----------------------------------------------------


async def test_it_issues_by_csr_and_reads_policy_chain_counters_and_statistics(hvclient: Path, tmp_path: Path) -> None:
    request = wish()
    async with running_atlas(Settings(quota=10, pending_polls=1)) as peer:
        told = await at(hvclient, peer, tmp_path, "session", request)
        root = peer.atlas.ca.root.certificate
        assert peer.atlas.calls["POST /login"] == 1
        assert peer.atlas.calls["GET /certificates/{serial}"] == 3, "once in progress, once issued, once revoked"
    leaf = x509.load_pem_x509_certificate(told["certificate"].encode())
    issuing, top = (x509.load_pem_x509_certificate(each.encode()) for each in told["chain"])
    assert top == root
    leaf.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(top)
    assert leaf.public_key() == request.csr.public_key()
    assert {each.rfc4514_string() for each in leaf.subject.rdns} == {
        each.rfc4514_string() for each in request.csr.subject.rdns
    }
    assert leaf.not_valid_before_utc == request.not_before
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(hours=17520)
    assert f"{leaf.serial_number:x}" == told["serial"]
    assert (told["status"], told["status_at_last"]) == ("ISSUED", "REVOKED")
    listed = [{"serial": told["serial"], "not_before": int(request.not_before.timestamp())}]
    assert (told["issued"], told["issued_total"]) == (listed, 1)
    assert (told["revoked"], told["revoked_total"]) == (listed, 1)
    assert (told["counted_issued"], told["counted_revoked"]) == (1, 1)
    assert (told["quota_before"], told["quota_after"]) == (10, 9)


async def test_it_reads_the_policy_as_it_stands(hvclient: Path, tmp_path: Path) -> None:
    async with running_atlas() as peer:
        told = (await at(hvclient, peer, tmp_path, "session"))["policy"]
    assert told["validity"] == DEFAULT_POLICY["validity"]
    assert told["subject_dn"].items() >= DEFAULT_POLICY["subject_dn"].items()
    assert told["extended_key_usages"] == DEFAULT_POLICY["extended_key_usages"]
    assert told["public_key"] == DEFAULT_POLICY["public_key"]
    assert told["public_key_signature"] == "FORBIDDEN"


async def test_it_issues_by_a_bare_public_key_too(hvclient: Path, tmp_path: Path) -> None:
    async with running_atlas(Settings(policy=PKCS8_POLICY)) as peer:
        told = await at(hvclient, peer, tmp_path, "session", public_key=True)
    assert told["status"] == "ISSUED"


async def test_it_logs_in_again_when_its_token_has_ended(hvclient: Path, tmp_path: Path) -> None:
    async with running_atlas() as peer:
        peer.atlas.faults.append(Fault(at="GET /quotas/issuance", do=401))
        told = await at(hvclient, peer, tmp_path, "session")
        assert peer.atlas.calls["POST /login"] == 2
    assert told["status_at_last"] == "REVOKED"


@pytest.mark.parametrize(
    ("status", "description"),
    [
        (402, "Quota Reached"),
        (422, "Message describing the validation error"),
        (429, "Rate Limit Reached"),
    ],
)
async def test_it_understands_the_refusals(hvclient: Path, tmp_path: Path, status: int, description: str) -> None:
    async with running_atlas() as peer:
        peer.atlas.faults.append(Fault(at="POST /certificates", do=status))
        told = await at(hvclient, peer, tmp_path, "refused")
    assert told == {"status": status, "description": description}


async def test_what_the_policy_forbids_is_refused_to_it(hvclient: Path, tmp_path: Path) -> None:
    async with running_atlas() as peer:
        told = await at(hvclient, peer, tmp_path, "refused", subject={"organization": "Acme"})
    assert told == {"status": 422, "description": "Request does not match the validation policy"}


async def test_a_wrong_secret_lets_it_not_in(hvclient: Path, tmp_path: Path) -> None:
    async with running_atlas() as peer:
        peer.atlas.faults.append(Fault(at="POST /login", do=401))
        told = await at(hvclient, peer, tmp_path, "refused")
    assert told == {"status": 401, "description": "Unauthorized"}


# -- the adapter, against what the vendor's client would send ----------------------------------


@pytest.mark.parametrize("policy", [DEFAULT_POLICY, PKCS8_POLICY], ids=["PKCS10", "PKCS8"])
async def test_the_adapter_sends_what_it_would_send(hvclient: Path, policy: Mapping[str, Any]) -> None:
    request = wish()
    theirs = await asked(hvclient, order(request, "request", public_key=policy is PKCS8_POLICY))
    theirs["body"]["public_key"] = theirs["body"]["public_key"].rstrip("\n")
    assert Policy(policy).body(request, None) == theirs["body"]


async def test_the_adapter_sends_a_chosen_end_as_it_would(hvclient: Path) -> None:
    request = make_request(
        subject=TEMPLATE, not_before=datetime(2026, 6, 1, 12, tzinfo=UTC), validity=timedelta(days=30)
    )
    end = int((request.not_before + timedelta(days=30)).timestamp())
    theirs = await asked(hvclient, order(request, "request", not_after=end))
    assert Policy(DEFAULT_POLICY).body(request, None)["validity"] == theirs["body"]["validity"]


async def test_both_see_the_same_certificate(hvclient: Path, tmp_path: Path) -> None:
    async with running_atlas() as peer:
        told = await at(hvclient, peer, tmp_path, "session")
        issuer = open_issuer("GLOBAL_SIGN", "theirs", peer.attributes, peer.credentials, LOOPBACK)
        pending = await issuer.issue(wish())
        assert isinstance(pending, Pending)
        issued = await issuer.collect(pending.reference)
        assert isinstance(issued, Issued)
        chain = await issuer.ca_certificates()
        await issuer.aclose()
    assert [each.public_bytes(Encoding.PEM).decode() for each in chain] == told["chain"]
    theirs = x509.load_pem_x509_certificate(told["certificate"].encode())
    assert theirs.subject == issued.leaf.subject
    assert [each.value for each in theirs.extensions] == [each.value for each in issued.leaf.extensions]
    assert atlas_ca().issuing.certificate == issued.chain[1]
