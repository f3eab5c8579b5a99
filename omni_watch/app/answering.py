"""The daemon's answers to what the command line wishes of it: keep what a feed shows now as an example; be quiet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omni_watch.app.errands import QUIET, TEACH
from omni_watch.app.lessons import example_from, keep_lesson
from omni_watch.app.showing import Showing
from omni_watch.domain.units import Frame
from omni_watch.domain.wishes import Wish
from omni_watch.watch.ports import Clock, Store, Transaction


async def answer_wishes(
    store: Store, frames: Mapping[str, Frame | None], *, clock: Clock, quiet: Callable[[], None] = lambda: None
) -> int:
    """Answer every open wish; `frames` are the last frames by feed. How many examples were asked for.

    `quiet` ends what companions are saying.
    """
    for hushing in await store.transact(lambda tx: tx.wishes.open_ones(QUIET)):
        quiet()
        await store.transact(lambda tx, wish=hushing: tx.wishes.answer(wish.id, {}, clock.now()))  # type: ignore[misc]
    wishes = await store.transact(lambda tx: tx.wishes.open_ones(TEACH))
    for wish in wishes:
        await store.transact(lambda tx, wish=wish: _answer(tx, wish, frames, clock))  # type: ignore[misc]
    return len(wishes)


def _answer(tx: Transaction, wish: Wish, frames: Mapping[str, Frame | None], clock: Clock) -> None:
    tx.wishes.answer(wish.id, _teach(tx, wish.payload, frames, clock), clock.now())


def _teach(
    tx: Transaction, payload: Mapping[str, Any], frames: Mapping[str, Frame | None], clock: Clock
) -> dict[str, Any]:
    try:
        showing = Showing.from_payload(payload)
    except (KeyError, TypeError, ValueError) as error:
        return {"error": f"the wish cannot be understood: {error}"}
    if showing.feed not in frames:
        return {
            "error": f"the running daemon has no feed {showing.feed!r}; restart it after changing the configuration"
        }
    frame = frames[showing.feed]
    if frame is None:
        return {"error": f"feed {showing.feed} shows nothing just now; `omni-watch doctor` looks closer"}
    if tx.tasks.get(showing.task_id) is None:
        return {"error": f"there is no task {showing.task_id!r} any more"}
    example = example_from(frame, label=showing.label, taken_at=clock.now(), origin=f"feed {showing.feed}")
    keep_lesson(tx, showing.lesson(example))
    return {"example_id": example.id}
