import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.coap import message as coap
from lwm2m.coap.blockwise import (
    AnswerKey,
    Assemblies,
    BadBlock,
    BlockRefused,
    BodyTooLarge,
    Download,
    HeldAnswer,
    HeldAnswers,
    StaleBlock,
    Upload,
    largest_block,
)
from lwm2m.coap.options import BLOCK2, ETAG, SIZE2, Block, decode_block, decode_uint

KEY = (coap.POST, ("est", "sen"))
ANSWER_KEY: AnswerKey = (*KEY, (), None)
sizes = st.sampled_from([16, 32, 64, 128, 256, 512, 1024])


def assemblies(most: int = 4, limit: int = 65536) -> Assemblies:
    return Assemblies(most, limit, 247.0)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=5000), sizes)
def test_what_upload_cuts_an_assembly_joins(payload: bytes, size: int) -> None:
    upload, joined, whole = Upload(payload, size), assemblies(), None
    while whole is None:
        whole = joined.take(KEY, upload.block, upload.chunk, None, 0.0)
        if whole is None:
            assert upload.answered(coap.CONTINUE, upload.block, None)
    assert whole == payload
    assert not upload.answered(coap.CHANGED, upload.block, None)
    assert joined.next_expiry() == float("inf")


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=5000), st.lists(sizes, min_size=2, max_size=8))
def test_the_receiver_may_shrink_the_blocks_of_an_upload_at_any_time(payload: bytes, wishes: list[int]) -> None:
    upload, joined, whole = Upload(payload, wishes[0]), assemblies(), None
    for turn in range(len(payload)):
        block = upload.block
        whole = joined.take(KEY, block, upload.chunk, None, 0.0)
        if whole is not None:
            break
        wish = wishes[turn % len(wishes)]
        assert upload.answered(coap.CONTINUE, Block(block.number, True, wish), None)
        assert upload.size <= min(wish, block.size)
    assert whole == payload


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=5000), st.lists(sizes, min_size=1, max_size=8))
def test_what_is_held_can_be_fetched_in_shrinking_blocks(payload: bytes, wishes: list[int]) -> None:
    held = HeldAnswer(1, coap.CONTENT, [], payload, wishes[0], 0.0, b"t")
    download = None
    block, options, chunk = held.serve(Block(0, False, wishes[0]))
    while True:
        assert decode_block(dict(options)[BLOCK2]) == block
        download = download or Download(coap.CONTENT, options, 65536)
        if not download.take(block, options, chunk):
            break
        block, options, chunk = held.serve(download.next_block)
    assert download.body == payload


def test_a_held_answer_tells_its_size_with_the_first_block_only() -> None:
    held = HeldAnswer(1, coap.CONTENT, [(12, b"\x28")], bytes(40), 16, 0.0, b"t")
    assert decode_uint(dict(held.serve(Block(0, False, 16))[1])[SIZE2]) == 40
    assert SIZE2 not in dict(held.serve(Block(1, False, 16))[1])


def test_a_larger_block_than_the_first_is_served_in_the_first_size() -> None:
    held = HeldAnswer(1, coap.CONTENT, [], bytes(range(100)), 32, 0.0, b"t")
    block, _, chunk = held.serve(Block(1, False, 64))
    assert (block, chunk) == (Block(2, True, 32), bytes(range(64, 96)))


def test_beyond_the_end_there_is_no_block() -> None:
    held = HeldAnswer(1, coap.CONTENT, [], bytes(64), 32, 0.0, b"t")
    held.serve(Block(1, False, 32))
    with pytest.raises(BlockRefused) as caught:
        held.serve(Block(2, False, 32))
    assert caught.value.code == coap.BAD_REQUEST


class TestUpload:
    def test_an_answer_without_a_block_option_still_means_continue(self) -> None:
        upload = Upload(bytes(100), 64)
        assert upload.answered(coap.CONTINUE, None, None)
        assert upload.block == Block(1, False, 64)

    def test_a_block_accepted_on_its_own_goes_on(self) -> None:
        upload = Upload(bytes(100), 64)
        assert upload.answered(coap.CHANGED, Block(0, False, 64), None)
        assert upload.block == Block(1, False, 64)

    def test_a_success_that_ignores_the_block_is_no_success(self) -> None:
        with pytest.raises(BadBlock):
            Upload(bytes(100), 64).answered(coap.CHANGED, None, None)

    def test_continue_after_the_last_block_makes_no_sense(self) -> None:
        with pytest.raises(BadBlock):
            Upload(bytes(10), 64).answered(coap.CONTINUE, Block(0, False, 64), None)

    def test_the_answer_to_an_earlier_block_is_stale_and_to_a_later_one_wrong(self) -> None:
        upload = Upload(bytes(300), 64)
        assert upload.answered(coap.CONTINUE, Block(0, True, 64), None)
        with pytest.raises(StaleBlock):
            upload.answered(coap.CONTINUE, Block(0, True, 64), None)
        with pytest.raises(BadBlock):
            upload.answered(coap.CONTINUE, Block(2, True, 64), None)
        assert upload.block == Block(1, True, 64)

    def test_the_answer_to_another_block_at_the_same_place_is_wrong(self) -> None:
        upload = Upload(bytes(3000), 1024)
        assert upload.answered(coap.CONTINUE, Block(0, True, 1024), None)
        with pytest.raises(BadBlock):
            upload.answered(coap.CONTINUE, Block(2, True, 512), None)

    def test_a_larger_block_size_in_the_answer_is_not_taken(self) -> None:
        upload = Upload(bytes(300), 64)
        assert upload.answered(coap.CONTINUE, Block(0, True, 1024), None)
        assert upload.block == Block(1, True, 64)

    def test_incomplete_starts_again_once(self) -> None:
        upload = Upload(bytes(200), 64)
        assert upload.answered(coap.CONTINUE, Block(0, True, 64), None)
        assert upload.answered(coap.REQUEST_ENTITY_INCOMPLETE, Block(1, True, 64), None)
        assert upload.block == Block(0, True, 64)
        assert upload.answered(coap.CONTINUE, Block(0, True, 64), None)
        assert not upload.answered(coap.REQUEST_ENTITY_INCOMPLETE, Block(1, True, 64), None)

    def test_incomplete_to_the_first_block_is_the_answer(self) -> None:
        assert not Upload(bytes(200), 64).answered(coap.REQUEST_ENTITY_INCOMPLETE, Block(0, True, 64), None)

    @pytest.mark.parametrize(
        ("block", "size1", "size"),
        [(Block(1, True, 32), None, 32), (None, 50, 32), (None, 3, 16), (Block(1, True, 16), 50, 16)],
    )
    def test_too_large_with_a_hint_starts_again_smaller(
        self, block: Block | None, size1: int | None, size: int
    ) -> None:
        upload = Upload(bytes(200), 64)
        assert upload.answered(coap.CONTINUE, Block(0, True, 64), None)
        assert upload.answered(coap.REQUEST_ENTITY_TOO_LARGE, block, size1)
        assert upload.block == Block(0, True, size)

    def test_too_large_without_any_size_is_tried_in_smaller_blocks(self) -> None:
        upload = Upload(bytes(2000), 1024)
        sizes = []
        while upload.answered(coap.REQUEST_ENTITY_TOO_LARGE, None, None):
            sizes.append(upload.size)
            assert upload.block == Block(0, True, upload.size)
        assert sizes == [512, 256, 128, 64]

    def test_too_large_without_any_size_to_a_later_block_is_the_answer(self) -> None:
        upload = Upload(bytes(2000), 1024)
        assert upload.answered(coap.CONTINUE, Block(0, True, 1024), None)
        assert not upload.answered(coap.REQUEST_ENTITY_TOO_LARGE, None, None)

    @pytest.mark.parametrize(("block", "size1"), [(Block(0, True, 64), None), (None, 64), (None, 4000)])
    def test_too_large_without_a_smaller_size_is_the_answer(self, block: Block | None, size1: int | None) -> None:
        assert not Upload(bytes(200), 64).answered(coap.REQUEST_ENTITY_TOO_LARGE, block, size1)


class TestDownload:
    def test_a_block_with_a_gap_before_it_is_wrong_and_an_earlier_one_stale(self) -> None:
        download = Download(coap.CONTENT, [], 1000)
        assert download.take(Block(0, True, 16), [], bytes(16))
        with pytest.raises(BadBlock):
            download.take(Block(2, True, 16), [], bytes(16))
        with pytest.raises(StaleBlock):
            download.take(Block(0, True, 16), [], bytes(16))
        assert download.next_block == Block(1, False, 16)

    def test_blocks_do_not_grow(self) -> None:
        download = Download(coap.CONTENT, [], 1000)
        for number in range(2):
            assert download.take(Block(number, True, 16), [], bytes(16))
        with pytest.raises(BadBlock):
            download.take(Block(1, True, 32), [], bytes(32))

    @pytest.mark.parametrize(("more", "length"), [(True, 15), (True, 0), (True, 17), (False, 17)])
    def test_a_payload_has_the_size_of_its_block(self, more: bool, length: int) -> None:
        with pytest.raises(BadBlock):
            Download(coap.CONTENT, [], 1000).take(Block(0, more, 16), [], bytes(length))

    def test_a_representation_that_changes_midway_is_refused(self) -> None:
        download = Download(coap.CONTENT, [(ETAG, b"1")], 1000)
        assert download.take(Block(0, True, 16), [(ETAG, b"1")], bytes(16))
        with pytest.raises(BadBlock):
            download.take(Block(1, False, 16), [(ETAG, b"2")], bytes(3))

    def test_one_byte_above_the_limit_is_too_large(self) -> None:
        for limit in (20, 19):
            download = Download(coap.CONTENT, [], limit)
            assert download.take(Block(0, True, 16), [], bytes(16))
            if limit == 20:
                assert not download.take(Block(1, False, 16), [], bytes(4))
            else:
                with pytest.raises(BodyTooLarge):
                    download.take(Block(1, False, 16), [], bytes(4))


class TestAssemblies:
    def test_a_body_in_one_block_is_whole_at_once(self) -> None:
        assert assemblies().take(KEY, Block(0, False, 64), b"csr", None, 0.0) == b"csr"

    @pytest.mark.parametrize("number", [1, 2, 5])
    def test_a_block_without_its_predecessors_is_incomplete(self, number: int) -> None:
        with pytest.raises(BlockRefused) as caught:
            assemblies().take(KEY, Block(number, True, 16), bytes(16), None, 0.0)
        assert caught.value.code == coap.REQUEST_ENTITY_INCOMPLETE

    def test_a_gap_is_incomplete_and_the_missing_block_may_still_come(self) -> None:
        joined = assemblies()
        assert joined.take(KEY, Block(0, True, 16), b"a" * 16, None, 0.0) is None
        with pytest.raises(BlockRefused) as caught:
            joined.take(KEY, Block(2, False, 16), b"c", None, 0.0)
        assert caught.value.code == coap.REQUEST_ENTITY_INCOMPLETE
        assert joined.take(KEY, Block(1, True, 16), b"b" * 16, None, 0.0) is None
        assert joined.take(KEY, Block(2, False, 16), b"c", None, 0.0) == b"a" * 16 + b"b" * 16 + b"c"

    def test_the_last_block_again_in_a_new_message_is_taken_once(self) -> None:
        joined = assemblies()
        joined.take(KEY, Block(0, True, 16), b"a" * 16, None, 0.0)
        joined.take(KEY, Block(1, True, 16), b"b" * 16, None, 0.0)
        assert joined.take(KEY, Block(1, True, 16), b"b" * 16, None, 0.0) is None
        assert joined.take(KEY, Block(2, False, 16), b"c", None, 0.0) == b"a" * 16 + b"b" * 16 + b"c"

    @pytest.mark.parametrize(("number", "payload"), [(1, b"b" * 16), (1, b"c" * 16), (2, b"x" * 16), (2, b"b" * 16)])
    def test_any_other_block_again_is_incomplete(self, number: int, payload: bytes) -> None:
        joined = assemblies()
        for letter in (b"a", b"b", b"c"):
            joined.take(KEY, Block(b"abc".index(letter), True, 16), letter * 16, None, 0.0)
        with pytest.raises(BlockRefused) as caught:
            joined.take(KEY, Block(number, True, 16), payload, None, 0.0)
        assert caught.value.code == coap.REQUEST_ENTITY_INCOMPLETE

    def test_the_first_block_starts_again(self) -> None:
        joined = assemblies()
        joined.take(KEY, Block(0, True, 16), b"a" * 16, None, 0.0)
        joined.take(KEY, Block(0, True, 32), b"b" * 32, None, 0.0)
        assert joined.take(KEY, Block(1, False, 32), b"c", None, 0.0) == b"b" * 32 + b"c"

    def test_one_byte_above_the_limit_is_too_large(self) -> None:
        joined = assemblies(limit=40)
        for extra in (8, 9):
            joined.take(KEY, Block(0, True, 32), bytes(32), None, 0.0)
            if extra == 8:
                assert joined.take(KEY, Block(1, False, 32), bytes(extra), None, 0.0) == bytes(40)
            else:
                with pytest.raises(BlockRefused) as caught:
                    joined.take(KEY, Block(1, False, 32), bytes(extra), None, 0.0)
                assert caught.value.code == coap.REQUEST_ENTITY_TOO_LARGE
        assert joined.next_expiry() == float("inf")

    def test_a_body_announced_too_large_is_refused_with_its_first_block(self) -> None:
        joined = assemblies(limit=65536)
        assert joined.take(KEY, Block(0, True, 16), bytes(16), 65536, 0.0) is None
        with pytest.raises(BlockRefused) as caught:
            joined.take(KEY, Block(0, True, 16), bytes(16), 65537, 0.0)
        assert caught.value.code == coap.REQUEST_ENTITY_TOO_LARGE

    def test_the_fifth_assembly_drives_out_the_one_left_alone_longest(self) -> None:
        joined = assemblies(most=4)
        keys = [(coap.POST, (str(number),)) for number in range(5)]
        for now, key in enumerate(keys[:4]):
            joined.take(key, Block(0, True, 16), bytes(16), None, float(now))
        joined.take(keys[0], Block(1, True, 16), bytes(16), None, 4.0)
        joined.take(keys[4], Block(0, True, 16), bytes(16), None, 5.0)
        with pytest.raises(BlockRefused) as caught:
            joined.take(keys[1], Block(1, False, 16), b"", None, 6.0)
        assert caught.value.code == coap.REQUEST_ENTITY_INCOMPLETE
        assert joined.take(keys[0], Block(2, False, 16), b"x", None, 6.0) == bytes(32) + b"x"

    def test_method_and_path_tell_bodies_apart(self) -> None:
        joined = assemblies()
        joined.take((coap.PUT, ("a",)), Block(0, True, 16), b"p" * 16, None, 0.0)
        joined.take((coap.POST, ("a",)), Block(0, True, 16), b"q" * 16, None, 0.0)
        assert joined.take((coap.PUT, ("a",)), Block(1, False, 16), b"x", None, 0.0) == b"p" * 16 + b"x"

    def test_what_is_left_alone_is_dropped_after_its_lifetime(self) -> None:
        joined = assemblies()
        joined.take(KEY, Block(0, True, 16), bytes(16), None, 100.0)
        assert joined.next_expiry() == 347.0
        joined.take(KEY, Block(1, True, 16), bytes(16), None, 200.0)
        joined.expire(446.9)
        assert joined.next_expiry() == 447.0
        joined.expire(447.0)
        assert joined.next_expiry() == float("inf")

    @pytest.mark.parametrize(("more", "length"), [(True, 15), (True, 0), (True, 17), (False, 17)])
    def test_a_payload_has_the_size_of_its_block(self, more: bool, length: int) -> None:
        with pytest.raises(BlockRefused) as caught:
            assemblies().take(KEY, Block(0, more, 16), bytes(length), None, 0.0)
        assert caught.value.code == coap.BAD_REQUEST


class TestHeldAnswers:
    def held(self, request_id: int, expires: float) -> HeldAnswer:
        return HeldAnswer(request_id, coap.CONTENT, [], bytes(2000), 1024, expires, b"t")

    def test_a_new_answer_for_a_path_drives_out_the_old_one(self) -> None:
        answers = HeldAnswers(4, 247.0)
        first, second = self.held(1, 1.0), self.held(2, 2.0)
        assert answers.hold(ANSWER_KEY, first) is None
        assert answers.hold(ANSWER_KEY, second) is first
        assert answers.find(ANSWER_KEY, 0.0, b"u") is second

    def test_an_answer_is_found_by_its_query_and_accept_and_dropped_by_method_and_path(self) -> None:
        answers = HeldAnswers(4, 247.0)
        first, second = self.held(1, 1.0), self.held(2, 2.0)
        accepting: AnswerKey = (*KEY, (), 287)
        asking: AnswerKey = (*KEY, ("rt=x",), None)
        answers.hold(accepting, first)
        assert answers.find(ANSWER_KEY, 0.0, b"u") is None
        assert answers.find(asking, 0.0, b"u") is None
        assert answers.hold(asking, second) is first
        assert answers.find(accepting, 0.0, b"t") is None
        assert answers.drop((coap.GET, KEY[1], ("rt=x",), None)) is None
        assert answers.drop(ANSWER_KEY) is second
        assert answers.find(asking, 0.0, b"u") is None

    def test_the_fifth_drives_out_the_one_asked_for_longest_ago(self) -> None:
        answers = HeldAnswers(4, 247.0)
        held = [self.held(number, float(number)) for number in range(5)]
        keys: list[AnswerKey] = [(coap.GET, (str(number),), (), None) for number in range(5)]
        for key, answer in zip(keys[:4], held[:4], strict=True):
            assert answers.hold(key, answer) is None
        answers.find(keys[0], 10.0, b"u")
        assert answers.hold(keys[4], held[4]) is held[1]

    def test_asking_prolongs_and_silence_ends_its_life(self) -> None:
        answers = HeldAnswers(4, 247.0)
        answer = self.held(1, 100.0)
        answers.hold(ANSWER_KEY, answer)
        answers.find(ANSWER_KEY, 50.0, b"u")
        assert answers.expire(100.0) == []
        assert answers.next_expiry() == 297.0
        assert answers.expire(297.0) == [answer]
        assert answers.find(ANSWER_KEY, 297.0, b"t") is None


@pytest.mark.parametrize(
    ("limit", "size"), [(None, 1024), (0, 16), (16, 16), (31, 16), (32, 32), (1023, 512), (1 << 30, 1024)]
)
def test_the_largest_block_fits_the_limit_but_is_never_below_16(limit: int | None, size: int) -> None:
    assert largest_block(limit) == size
