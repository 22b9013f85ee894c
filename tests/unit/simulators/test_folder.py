"""What a device leaves on disk: its credentials by name, readable for its owner alone, nothing of an earlier run."""

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from simulators.checks import Identity
from simulators.folder import folder_of, leave
from tests import pki

ISSUING = pki.make_factory_ca("Issuing")


def identity(endpoint: str) -> tuple[pki.Holder, Identity]:
    held = pki.make_device_certificate(ISSUING, endpoint)
    assert isinstance(held.key, ec.EllipticCurvePrivateKey)
    return held, Identity(instance=0, chain=(held.certificate, ISSUING.certificate), key=held.key)


def test_a_device_leaves_each_credential_under_its_name_for_its_owner_alone(tmp_path: Path) -> None:
    first, one = identity("one")
    second, two = identity("two")
    folder = tmp_path / "device"
    leave(folder, ["began", "ended"], {"/0": {}}, {"": one, "2": two})
    assert (folder / "transcript.txt").read_text() == "began\nended\n"
    assert json.loads((folder / "resources.json").read_text()) == {"/0": {}}
    assert (folder / "chain.pem").read_bytes() == first.pem + ISSUING.pem
    assert (folder / "key.pem").read_bytes() == first.key_pem
    assert (folder / "chain-2.pem").read_bytes() == second.pem + ISSUING.pem
    assert (folder / "key-2.pem").read_bytes() == second.key_pem
    secret = [path for path in folder.iterdir() if path.name != "transcript.txt"]
    assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}


def test_of_an_earlier_run_no_credential_stays(tmp_path: Path) -> None:
    _, one = identity("one")
    leave(tmp_path, [], {}, {"": one, "2": one})
    leave(tmp_path, [], {}, {})
    assert {path.name for path in tmp_path.iterdir()} == {"transcript.txt", "resources.json"}


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), st.text(st.characters(codec="utf-8"), min_size=1)
)
def test_a_folder_is_of_one_device_and_lies_in_the_one_named(endpoint: str, other: str) -> None:
    out = Path("out")
    folder = folder_of(endpoint, out)
    assert folder.parent == out
    assert folder.name not in (".", "..")
    assert (folder == folder_of(other, out)) == (endpoint == other)
