"""The self-test of the OpenSSL engine: it passes, and a wheel that lacks something is unfit."""

from typing import Any

import pytest

from server.transport import openssl, openssl_session
from server.transport.engine import EngineUnfit
from tests.unit.transport.client import lib


def test_the_self_test_passes_on_the_installed_wheel() -> None:
    openssl.self_test()


def test_a_wheel_without_pre_shared_keys_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        Cryptography_HAS_PSK = 0

    monkeypatch.setattr(openssl, "_lib", Without())
    with pytest.raises(EngineUnfit, match="pre-shared"):
        openssl.self_test()


@pytest.mark.parametrize(
    ("suites", "wanted"), [(b"PSK-AES128-CCM8", "refused"), (b"ECDHE-ECDSA-AES128-GCM-SHA256", "refused|asked for")]
)
def test_a_wheel_that_lost_a_suite_is_unfit(monkeypatch: pytest.MonkeyPatch, suites: bytes, wanted: str) -> None:
    monkeypatch.setattr(openssl, "SUITES", suites + b":@SECLEVEL=0")
    with pytest.raises(EngineUnfit, match=wanted):
        openssl.self_test()


def test_a_wheel_whose_binding_changed_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed:
        def __getattr__(self, name: str) -> Any:
            if name == "DTLSv1_listen":
                raise AttributeError(name)
            return getattr(lib, name)

    monkeypatch.setattr(openssl_session, "_lib", Changed())
    with pytest.raises(EngineUnfit, match="DTLSv1_listen"):
        openssl.self_test()
