"""A running server among peers that misbehave, for some rounds; nights take more (`make fuzz-night`)."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fuzz import live
from tests.fuzz.__main__ import SEED
from tests.fuzz.live import GROWTH, LEAK, Outcome, run_live
from tests.fuzz.target import Finding

ROUNDS = int(os.environ.get("FUZZ_LIVE_ROUNDS", "4"))


async def test_a_live_bootstrap_finishes_and_the_memory_comes_back(tmp_path: Path) -> None:
    said: list[str] = []
    assert await run_live(tmp_path, ROUNDS, os.environ.get("FUZZ_SEED", str(SEED)), said.append), said[0]
    assert said[0].endswith("no finding")


async def test_what_went_wrong_among_live_peers_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    @asynccontextmanager
    async def nothing(_: Path) -> AsyncIterator[None]:
        yield None

    async def broken(*_: object) -> Outcome:
        raise Finding("the memory does not come back: 7 MB")

    monkeypatch.setattr(live, "field", nothing)
    monkeypatch.setattr(live, "besieged", broken)
    said: list[str] = []
    assert not await run_live(tmp_path, 3, 7, said.append)
    assert said[0].startswith("live: 3 rounds in ")
    assert "a finding" in said[0]
    assert "the memory does not come back: 7 MB" in said[0]


def test_a_leak_of_what_a_refused_handshake_leaves_behind_would_show() -> None:
    before = 60_000_000
    refused = int(before * GROWTH / LEAK) + 1
    assert Outcome(refused=refused, before=before, after=before + refused * LEAK).grown
    assert not Outcome(refused=refused, before=before, after=before).grown
    # It is not called a proof with fewer than twice as many.
    assert not Outcome(refused=refused, before=before, after=before).telling
    assert Outcome(refused=2 * refused, before=before, after=before).telling
