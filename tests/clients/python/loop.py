"""Runs asynchronous clients for the cases, which are synchronous: an event loop in a thread of its own."""

import asyncio
import threading

LOOP = asyncio.new_event_loop()
threading.Thread(target=LOOP.run_forever, daemon=True).start()


def wait(awaitable):
    """The result of an awaitable."""

    async def awaited():
        return await awaitable

    return asyncio.run_coroutine_threadsafe(awaited(), LOOP).result()


def cancelled(coroutine, seconds):
    """The result of a coroutine that is cancelled after a while."""

    async def cancel():
        task = asyncio.ensure_future(coroutine)
        await asyncio.sleep(seconds)
        task.cancel()
        return await task

    return wait(cancel())
