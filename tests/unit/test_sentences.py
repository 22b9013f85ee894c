import re

import pytest

from lwm2m.coap import message as coap
from lwm2m.steps import Failed, FailureCause
from server import sentences
from server.cli.device import COMMANDS
from server.sentences import SENTENCES, for_failure
from server.transport.engine import RefusalReason


def test_every_cause_has_a_row() -> None:
    assert set(SENTENCES) == set(FailureCause)


@pytest.mark.parametrize("cause", FailureCause)
@pytest.mark.parametrize("where", [("/0/1", coap.BAD_REQUEST, "said so"), (None, None, "")])
def test_every_cause_is_one_sentence_with_turn_and_remedy(
    cause: FailureCause, where: tuple[str | None, int | None, str]
) -> None:
    sentence = for_failure(Failed(cause, *where), "device-1")
    assert "device-1" in sentence
    assert re.search(r": (the operator's turn|the device's turn|the CA's turn|nobody's turn), \w", sentence)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert not re.search(r"[{}]|None|  ", sentence)
    assert ("said so" in sentence) is bool(where[2])


@pytest.mark.parametrize(
    "cause",
    [FailureCause.DELETE_REFUSED, FailureCause.WRITE_REFUSED, FailureCause.FORMAT_REFUSED, FailureCause.FINISH_REFUSED],
)
def test_a_refusal_names_path_and_code(cause: FailureCause) -> None:
    sentence = for_failure(Failed(cause, "/0/1", coap.BAD_REQUEST), "device-1")
    assert "at /0/1 (Security) with 4.00" in sentence


def test_a_whole_sentence_reads_as_one() -> None:
    failed = Failed(FailureCause.WRITE_REFUSED, "/0/1", coap.BAD_REQUEST, "missing key")
    assert for_failure(failed, "device-1") == (
        "device-1 refused the Write at /0/1 (Security) with 4.00 (missing key): the operator's turn, "
        "compare mode, uri and formats of the profile with what the device supports."
    )


def test_a_bad_request_for_a_certificate_is_called_by_its_name() -> None:
    failed = Failed(FailureCause.BAD_REQUEST, "/est/sen", coap.NOT_ACCEPTABLE, "sen has no answer in 40")
    sentence = for_failure(failed, "device-1")
    assert sentence.startswith(
        "the request of device-1 for a certificate was not valid at /est/sen (EST) with 4.06 (sen"
    )
    assert "Bootstrap-Request" not in sentence
    assert "Bootstrap-Request" in for_failure(Failed(FailureCause.BAD_REQUEST, None, coap.BAD_REQUEST), "device-1")


def test_braces_in_what_a_device_says_stay_as_they_are() -> None:
    failed = Failed(FailureCause.WRITE_REFUSED, "/1/0", coap.BAD_REQUEST, "{place}")
    assert "({place})" in for_failure(failed, "{code}")
    assert "{code} refused the Write at /1/0 (Server)" in for_failure(failed, "{code}")


@pytest.mark.parametrize("reason", list(RefusalReason))
def test_every_reason_of_a_refusal_says_what_it_means_and_what_to_do(reason: RefusalReason) -> None:
    meaning, remedy = sentences.for_refusal(reason.value)
    assert meaning
    assert remedy
    assert "log" not in remedy or reason is RefusalReason.HANDSHAKE_FAILED


def test_commands_belong_to_reasons_that_there_are() -> None:
    assert set(COMMANDS) <= {reason.value for reason in RefusalReason}


def test_a_refusal_after_the_handshake_has_the_sentence_of_its_cause() -> None:
    assert sentences.for_refusal("no_profile")[0] == "no profile is for it"
    assert sentences.for_refusal("something_new")[0] == "something new"
