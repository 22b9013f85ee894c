import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.bootstrap_request import BootstrapRequest, parse_bootstrap_request
from lwm2m.errors import DecodeError


def test_all_parameters_are_kept_and_ep_and_pct_are_read() -> None:
    request = parse_bootstrap_request(["ep=urn:dev:1", "aid=0123", "pct=112", "flag", "aid=4=5"])
    assert request == BootstrapRequest("urn:dev:1", 112, (("aid", "0123"), ("flag", ""), ("aid", "4=5")))
    assert request.parameter("aid") == "0123"
    assert request.parameter("iep") is None


def test_both_may_be_missing() -> None:
    assert parse_bootstrap_request([]) == BootstrapRequest(None, None)


def test_an_endpoint_name_is_taken_literally() -> None:
    # percent-encoding belongs to URIs, not to Uri-Query options (RFC 7252 6.5)
    assert parse_bootstrap_request(["ep=urn%3Adev"]).endpoint == "urn%3Adev"
    assert parse_bootstrap_request(["ep=a=b"]).endpoint == "a=b"


def test_an_endpoint_name_has_at_most_255_bytes() -> None:
    assert parse_bootstrap_request(["ep=" + "ä" * 127]).endpoint == "ä" * 127
    with pytest.raises(DecodeError, match="255 bytes"):
        parse_bootstrap_request(["ep=" + "ä" * 128])


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (["ep="], "printable"),
        (["ep"], "printable"),
        (["ep=a\nb"], "printable"),
        (["ep=a", "ep=a"], "ep is given twice"),
        (["pct=112", "pct=112"], "pct is given twice"),
        (["pct="], "number"),
        (["pct=-1"], "number"),
        (["pct=1_1"], "number"),
        (["pct=65536"], "number"),
        (["pct=²"], "number"),
        (["pct=" + "1" * 5000], "number"),
    ],
)
def test_what_is_not_a_request_is_refused(query: list[str], said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        parse_bootstrap_request(query)


@settings(deadline=None)
@given(
    st.lists(
        st.text(max_size=20).map(lambda t: t)
        | st.sampled_from(["ep", "pct"]).flatmap(lambda n: st.text(max_size=8).map(lambda v: f"{n}={v}"))
    )
)
def test_nothing_raises_anything_but_the_named_error(query: list[str]) -> None:
    with contextlib.suppress(DecodeError):
        request = parse_bootstrap_request(query)
        given_names = sum(name is not None for name in (request.endpoint, request.pct))
        assert len(request.parameters) + given_names == len(query)
