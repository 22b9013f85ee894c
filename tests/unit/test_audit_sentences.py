"""Every word that the record writes into its audit has a sentence, and the sentence says what happened."""

import ast
import re
from pathlib import Path

import pytest

import server
from server.api.console.audit import changes
from server.api.console.told import SENTENCES, TITLES, Detail, sentence
from sql import __file__ as sql_file

PLANT = "1" * 32
WORD = re.compile(r"[a-z_]+\.[a-z_]+")
# What a word that is put together when it is written ends in, and in the statements of SQL.
ENDINGS = {
    "api_key": (),
    "bootstrap": ("failed", "succeeded"),
    "certificate_enrollment": ("failure", "requested", "success", "withdrawn"),
    "certificate_issuer": ("added", "changed", "removed"),
    "device_enrollment": ("added", "added_many", "removed", "removed_many"),
    "enrollment": ("failed", "succeeded"),
}


def written() -> set[str]:
    """The words that the store writes: those of `action`, and those that a helper is given for it."""
    subjects = {word.partition(".")[0] for word in SENTENCES}
    found = set()
    for file in (Path(server.__file__).parent / "store").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and WORD.fullmatch(node.value):
                found.add(node.value)
            if isinstance(node, ast.keyword) and node.arg == "action" and isinstance(node.value, ast.JoinedStr):
                start = node.value.values[0]
                assert isinstance(start, ast.Constant)
                assert str(start.value).rstrip(".") in ENDINGS, f"{file.name}: {start.value}"
    for file in Path(str(sql_file)).parent.rglob("*.sql"):
        for start in re.findall(r"'([a-z_]+)\.' \|\|", file.read_text()):
            assert start in ENDINGS, f"{file.name}: {start}"
    return {word for word in found if word.partition(".")[0] in subjects}


def test_every_word_of_the_audit_has_a_sentence() -> None:
    words = written() | {f"{start}.{end}" for start, ends in ENDINGS.items() for end in ends}
    assert len(words) > 40
    assert words <= set(SENTENCES)


def test_every_word_of_the_audit_can_be_looked_for_by_a_title_of_its_own() -> None:
    assert set(TITLES) == set(SENTENCES)
    assert len(set(TITLES.values())) == len(TITLES)
    assert not [title for title in TITLES.values() if WORD.search(title)]


@pytest.mark.parametrize(
    ("action", "subject", "detail", "said"),
    [
        (
            "service.configured",
            "LWM2M",
            {"before": {"certificate_issuer_id": None}, "after": {"certificate_issuer_id": PLANT}},
            "Certificate authority 'Plant CA' made active for LWM2M",
        ),
        (
            "service.configured",
            "LWM2M",
            {"before": {"certificate_issuer_id": PLANT}, "after": {"certificate_issuer_id": None}},
            "The embedded CA made active for LWM2M",
        ),
        (
            "service.configured",
            "LWM2M",
            {"before": {}, "after": {"certificate_issuer_id": "2" * 32}},
            "A CA that is no longer registered made active for LWM2M",
        ),
        (
            "console.sign_in_refused",
            "aino",
            {"times": 3, "sources": ["192.0.2.1", "192.0.2.7"], "more_sources": True, "switched_off": False},
            "Sign-in as 'aino' refused, 3 times, from 192.0.2.1, 192.0.2.7 and more",
        ),
        ("bootstrap.failed", "pump-1", {"cause": "no_profile"}, "Bootstrap of 'pump-1' failed: no profile"),
        (
            "certificate_issuer.verified",
            "Plant CA",
            {"successful": False},
            "Certificate authority 'Plant CA' verified: it does not work",
        ),
        ("profile.set", "meters {}", {"before": None, "after": {}}, "Profile 'meters {}' made"),
        ("colour.painted_over", "wall", {}, "colour painted over: wall"),
    ],
)
def test_a_line_of_the_audit_is_a_sentence(action: str, subject: str, detail: Detail, said: str) -> None:
    assert sentence(action, subject, detail, {PLANT: "Plant CA"}) == said


def test_no_sentence_fails_on_a_line_that_lacks_its_detail() -> None:
    assert all(sentence(action, "x", {}, {}) for action in SENTENCES)


def test_a_role_is_called_what_the_other_pages_call_it() -> None:
    changed = changes({"before": {"role": "admin"}, "after": {"role": "reader"}}, {})
    assert [(each.before, each.after) for each in changed] == [("administrator", "read-only")]
    assert [each.after for each in changes({"role": "reader"}, {})] == ["read-only"]
    assert [each.after for each in changes({"role": "an earlier one"}, {})] == ["an earlier one"]


def test_a_file_of_keys_is_told_by_their_number() -> None:
    told = [sentence("pre_shared_key.added", "meter-1", {"service": "bootstrap", "count": 1}, {})]
    told.append(sentence("pre_shared_key.added", "60 keys", {"service": "bootstrap", "count": 60}, {}))
    assert told == ["Pre-shared key of 'meter-1' stored", "60 pre-shared keys stored from a file"]
