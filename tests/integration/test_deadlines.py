"""A session has its time, whatever the device does with it."""

from pathlib import Path

from simulators.brief import Patience
from tests.integration.field import opened, steps

NEVER = 600.0
# Longer than the session has.
PATIENT = Patience(handshake=20.0, server=15.0)


async def test_a_session_that_runs_out_of_time_ends_with_its_sentence_and_the_next_one_passes(tmp_path: Path) -> None:
    settings = tmp_path / "firstlight.toml"
    # That its association is idle for longer meanwhile ends it no sooner.
    settings.write_text("[limits]\nsession_seconds = 9\nidle_seconds = 5\n")
    async with opened(tmp_path, "--config", str(settings)) as field:
        certificate = field.certificate("slow")
        # It acknowledges the Finish, and its answer never comes.
        report, _ = await field.bootstrap("slow", credential=certificate, patience=PATIENT, finish_delay=NEVER)
        assert not report.ok
        [session] = (await field.ended("slow"))["sessions"]
        assert (session["outcome"], session["cause"]) == ("failed", "deadline")
        assert "slow ran out of time at /bs (Bootstrap): the device's turn" in session["sentence"]
        assert steps(session, "finish")
        report, _ = await field.bootstrap("slow", credential=certificate)
        assert report.ok, report.reason
