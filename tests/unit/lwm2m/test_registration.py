"""lwm2m/registration.py against LwM2M Core 1.2 clause 6.2."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.errors import DecodeError
from lwm2m.paths import Path
from lwm2m.registration import (
    DEFAULT_LIFETIME,
    MAX_OBJECTS,
    Holdings,
    RegistrationRequest,
    Registrations,
    RegistrationUpdate,
    parse_holdings,
    parse_register,
    parse_update,
)

OBJECTS = b'</>;rt="oma.lwm2m";ct=110,</1/0>,</1/1>,</3/0>,</5>,</35011/0>'


def request(lifetime: int = 60) -> RegistrationRequest:
    return RegistrationRequest(endpoint="d", lifetime=lifetime, version="1.1", binding="U", holdings=Holdings())


# -- codecs ---------------------------------------------------------------------------------------------------


def test_a_register_is_read_whole() -> None:
    read = parse_register(["ep=urn:dev:1", "lt=300", "lwm2m=1.2", "b=UT", "pid=7"], OBJECTS)
    assert (read.endpoint, read.lifetime, read.version, read.binding) == ("urn:dev:1", 300, "1.2", "UT")
    assert read.holdings.instances(1) == (0, 1)
    assert read.holdings.instances(35011) == (0,)
    assert read.holdings.instances(5) == ()
    assert read.holdings.segments(Path(1, 0, 9)) == ("1", "0", "9")


def test_what_a_register_leaves_out_has_its_default() -> None:
    read = parse_register([], b"</3/0>")
    assert (read.endpoint, read.lifetime, read.version, read.binding) == (None, DEFAULT_LIFETIME, "1.0", "U")


@pytest.mark.parametrize(
    ("query", "binding"), [(["b=UQ"], "UQ"), (["b=U", "Q"], "UQ"), (["Q"], "UQ"), (["b=T"], "T"), ([], "U")]
)
def test_a_device_that_sleeps_says_so_in_either_way(query: list[str], binding: str) -> None:
    assert parse_register(["lwm2m=1.1", *query], b"</3/0>").binding == binding


def test_a_register_without_its_objects_is_refused() -> None:
    with pytest.raises(DecodeError, match="objects"):
        parse_register(["ep=d", "lwm2m=1.1"], b"")


def test_objects_below_an_alternate_path_are_found_and_asked_there() -> None:
    holdings = parse_holdings(b'</lwm2m>;rt="oma.lwm2m",</lwm2m/1/0>,</lwm2m/35011/0>,</other/1/7>,</1/9>')
    assert holdings.paths == (Path(1, 0), Path(35011, 0))
    assert holdings.segments(Path(1, 0, 9)) == ("lwm2m", "1", "0", "9")


@pytest.mark.parametrize(
    "query",
    [
        ["lwm2m=1.1", "ep="],
        ["lwm2m=1.1", "ep=a\nb"],
        ["lwm2m=1.1", "ep=" + "x" * 256],
        ["lwm2m=1.1", "ep=a", "ep=b"],
        ["lwm2m=1.1", "lwm2m=1.2"],
        ["lwm2m=1.1", "lt=0"],
        ["lwm2m=1.1", "lt=-5"],
        ["lwm2m=1.1", "lt=4294967296"],
        ["lwm2m=1.1", "lt=٣"],
        ["lwm2m=1.1", "b="],
        ["lwm2m=1.1", "b=U1"],
        ["lwm2m=1.1", "b=XX"],
        ["lwm2m=1.1", "b=u"],
        ["lwm2m=1.1", "b=UUUUUUU"],
    ],
)
def test_a_register_that_cannot_be_is_refused(query: list[str]) -> None:
    with pytest.raises(DecodeError):
        parse_register(query, b"</3/0>")


@pytest.mark.parametrize("payload", [b"nonsense", b"</3/0", b"\xff", b'</a/b/c/d/e>;rt="oma.lwm2m"'])
def test_a_list_of_objects_that_is_none_is_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_holdings(payload)


def test_the_objects_of_a_device_are_bounded() -> None:
    most = ",".join(f"</1000/{number}>" for number in range(MAX_OBJECTS))
    assert len(parse_holdings(most.encode()).paths) == MAX_OBJECTS
    with pytest.raises(DecodeError, match=str(MAX_OBJECTS)):
        parse_holdings(f"{most},</1001/0>".encode())


def test_an_update_without_a_word_changes_nothing_but_the_end() -> None:
    assert parse_update([], b"") == RegistrationUpdate()
    read = parse_update(["lt=5", "b=U"], b"</1/0>")
    assert (read.lifetime, read.binding) == (5, "U")
    assert read.holdings is not None


@settings(deadline=None)
@given(st.lists(st.text(max_size=40), max_size=8), st.binary(max_size=200))
def test_no_input_raises_anything_but_the_named_error(query: list[str], payload: bytes) -> None:
    for read in (parse_register, parse_update):
        try:
            read(query, payload)
        except DecodeError:
            pass


paths = st.builds(Path, st.integers(0, 65534), st.none() | st.integers(0, 65534))


@settings(deadline=None)
@given(st.sets(paths, max_size=20), st.sampled_from(["", "/lwm2m", "/a/b"]))
def test_every_object_listed_is_found_again(listed: set[Path], root: str) -> None:
    links = [f'<{root or "/"}>;rt="oma.lwm2m"', *(f"<{root}{path}>" for path in listed)]
    holdings = parse_holdings(",".join(links).encode())
    assert holdings.paths == tuple(sorted(listed))
    assert "".join(f"/{segment}" for segment in holdings.root) == root


# -- the state machine ----------------------------------------------------------------------------------------


def test_a_registration_lives_as_long_as_it_is_prolonged() -> None:
    known = Registrations[str]()
    known.register("d", "one", request(60), now=100.0)
    changed = known.update("d", "one", RegistrationUpdate(), now=150.0)
    assert changed is not None
    assert changed.expires_at == 210.0
    assert known.expire(209.0) == []
    assert [device for device, _ in known.expire(210.0)] == ["d"]
    assert known.get("d") is None


def test_an_update_changes_what_it_names() -> None:
    known = Registrations[str]()
    known.register("d", "one", request(60), now=0.0)
    objects = Holdings((Path(1, 0),))
    changed = known.update("d", "one", RegistrationUpdate(lifetime=7, binding="UQ", holdings=objects), now=1.0)
    assert changed is not None
    assert (changed.lifetime, changed.binding, changed.holdings, changed.expires_at) == (7, "UQ", objects, 8.0)
    assert known.get("d") == changed


@pytest.mark.parametrize("now", [0.0, 60.0])
def test_nobody_else_and_nobody_late_changes_or_ends_one(now: float) -> None:
    known = Registrations[str]()
    known.register("d", "one", request(60), now=0.0)
    wrong = "two" if now < 60 else "one"
    assert known.update("d", wrong, RegistrationUpdate(), now) is None
    assert known.deregister("d", wrong, now) is None
    assert known.update("other", "one", RegistrationUpdate(), now) is None


def test_a_new_registration_replaces_the_one_before() -> None:
    known = Registrations[str]()
    known.register("d", "one", request(), now=0.0)
    known.register("d", "two", request(), now=1.0)
    assert len(known) == 1
    assert known.deregister("d", "one", now=2.0) is None
    assert known.deregister("d", "two", now=2.0) is not None
    assert len(known) == 0


steps = st.lists(
    st.tuples(
        st.sampled_from(["register", "update", "deregister", "expire"]),
        st.sampled_from("ab"),
        st.sampled_from(["1", "2"]),
        st.integers(1, 9),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(steps)
def test_whatever_comes_a_device_is_there_once_and_never_beyond_its_time(
    course: list[tuple[str, str, str, int]],
) -> None:
    known, truth, now = Registrations[str](), dict[str, tuple[str, float]](), 0.0
    for step, device, id, number in course:
        now += number
        held = truth.get(device)
        mine = held is not None and held[0] == id and held[1] > now
        match step:
            case "register":
                known.register(device, id, request(number), now)
                truth[device] = (id, now + number)
            case "update":
                assert (known.update(device, id, RegistrationUpdate(lifetime=number), now) is not None) == mine
                if mine:
                    truth[device] = (id, now + number)
            case "deregister":
                assert (known.deregister(device, id, now) is not None) == mine
                if mine:
                    del truth[device]
            case "expire":
                over = {device for device, _ in known.expire(now)}
                assert over == {device for device, (_, end) in truth.items() if end <= now}
                truth = {device: one for device, one in truth.items() if one[1] > now}
        assert len(known) == len(truth)
        assert all(
            (found := known.get(device)) is not None and (found.id, found.expires_at) == one
            for device, one in truth.items()
        )
