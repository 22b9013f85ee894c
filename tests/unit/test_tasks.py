import asyncio

from server import tasks


async def test_what_is_done_in_time_is_done_and_the_rest_is_cancelled() -> None:
    may_end = asyncio.Event()

    async def ends() -> str:
        await may_end.wait()
        return "done"

    async def fails() -> None:
        raise RuntimeError("theirs to tell")

    async def waits_for_ever() -> None:
        may_end.set()
        await asyncio.Event().wait()

    running = [asyncio.ensure_future(each()) for each in (ends, fails, waits_for_ever)]
    await tasks.end(running, 0.01)
    done, failed, cancelled = running
    assert (done.result(), str(failed.exception()), cancelled.cancelled()) == ("done", "theirs to tell", True)


async def test_without_patience_all_are_cancelled() -> None:
    running = asyncio.ensure_future(asyncio.sleep(0))
    await tasks.end([running])
    assert running.cancelled()
    await tasks.end([])
