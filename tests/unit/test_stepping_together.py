"""How units of several feeds share the one model thread, and what a model that hangs or breaks does to them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from omni_watch.domain.decisions import Decision, Listen
from omni_watch.domain.errors import ModelError
from omni_watch.domain.units import Unit
from omni_watch.watch.briefing import Briefing
from omni_watch.watch.ports import Step
from omni_watch.watch.stepping import ModelThread, one_by_one
from tests.fakes.fake_feed import unit
from tests.fakes.fake_model import FakeModel, FakeSession


class PackingModel(FakeModel):
    """Packs four; holds each step until `may_step` is set; `ahead` pieces of work can be done in advance."""

    most_together = 4

    def __init__(self, ahead: int = 0) -> None:
        super().__init__()
        self.may_step = threading.Event()
        self.began = threading.Event()
        self.ahead = ahead
        self.log: list[str] = []

    def step_together(self, steps: Sequence[Step]) -> list[Decision | ModelError]:
        self.began.set()
        assert self.may_step.wait(10)
        self.log.append("step")
        return super().step_together(steps)

    def hush(self, feed: str) -> None:
        pass

    def work_ahead(self) -> bool:
        self.log.append("ahead")
        self.ahead -= 1
        return self.ahead > 0

    def feeds(self) -> list[list[str]]:
        return [[step.unit.feed for step in batch] for batch in self.batches]


@pytest.fixture
async def model() -> PackingModel:
    return PackingModel()


@pytest.fixture
async def thread(model: PackingModel) -> AsyncIterator[ModelThread]:
    thread = ModelThread(model)
    yield thread
    model.may_step.set()
    await thread.stop()


def session(model: FakeModel, feed: str) -> FakeSession:
    return model.open(Briefing(feed=feed))


def asks(thread: ModelThread, model: FakeModel, feed: str) -> asyncio.Task[Decision]:
    return asyncio.create_task(thread.step(session(model, feed), unit(0, feed=feed)))


async def begun(model: PackingModel) -> None:
    assert await asyncio.to_thread(model.began.wait, 10)


async def test_a_lone_unit_is_stepped_at_once_and_those_that_come_meanwhile_go_together(
    thread: ModelThread, model: PackingModel
) -> None:
    first = asks(thread, model, "hall")
    await begun(model)
    others = [asks(thread, model, feed) for feed in ("kitchen", "porch", "yard")]
    await asyncio.sleep(0)
    model.may_step.set()
    await asyncio.gather(first, *others)
    assert model.feeds() == [["hall"], ["kitchen", "porch", "yard"]]


async def test_no_more_go_together_than_the_engine_packs_and_none_is_forgotten(
    thread: ModelThread, model: PackingModel
) -> None:
    first = asks(thread, model, "hall")
    await begun(model)
    others = [asks(thread, model, f"f{number}") for number in range(6)]
    await asyncio.sleep(0)
    model.may_step.set()
    await asyncio.gather(first, *others)
    assert [len(batch) for batch in model.feeds()] == [1, 4, 2]


async def test_a_session_that_fails_fails_alone() -> None:
    model = FakeModel()
    good, bad = session(model, "hall"), session(model, "porch")

    def breaks(heard: Unit, briefing: Briefing) -> Decision:
        raise ModelError("NaN", can_retry=True)

    bad._script = breaks
    results = one_by_one([Step(bad, unit(0)), Step(good, unit(0))])
    assert isinstance(results[0], ModelError)
    assert results[1] == Listen()

    thread = ModelThread(model)
    with pytest.raises(ModelError, match="NaN"):
        await thread.step(bad, unit(1))
    assert await thread.step(good, unit(1)) == Listen()
    await thread.stop()


async def test_what_nobody_waits_for_is_done_after_a_step_and_only_while_no_unit_waits() -> None:
    model = PackingModel(ahead=2)
    model.may_step.set()
    thread = ModelThread(model)
    steps = [thread.step(session(model, feed), unit(0, feed=feed)) for feed in ("a", "b")]
    await asyncio.gather(*steps)
    await thread.step(session(model, "c"), unit(0, feed="c"))
    await thread.stop()
    assert model.log[:2] == ["step", "step"], "the second waits, so that nothing is done ahead between them"
    assert "ahead" in model.log


async def test_at_rest_all_that_could_be_done_ahead_is_done() -> None:
    model = PackingModel(ahead=3)
    model.may_step.set()
    thread = ModelThread(model)
    await thread.rest()
    await thread.step(session(model, "a"), unit(0, feed="a"))
    await thread.rest()
    assert model.log == ["step", "ahead", "ahead", "ahead"]
    await thread.stop()


async def test_a_session_is_closed_on_the_model_thread_before_the_next_step(
    thread: ModelThread, model: PackingModel
) -> None:
    first = asks(thread, model, "hall")
    await begun(model)
    replaced = session(model, "porch")
    closing = asyncio.create_task(thread.close_session(replaced))
    second = asks(thread, model, "porch")
    await asyncio.sleep(0)
    model.may_step.set()
    await asyncio.gather(first, closing, second)
    assert replaced.is_closed


async def test_a_model_that_hangs_ends_every_waiting_unit_with_an_error_that_trying_again_does_not_mend() -> None:
    model = PackingModel()
    thread = ModelThread(model, limit_s=0.05)
    hanging, waiting = asks(thread, model, "hall"), asks(thread, model, "porch")
    for each in (hanging, waiting):
        with pytest.raises(ModelError, match="did not answer within") as caught:
            await each
        assert not caught.value.can_retry
    with pytest.raises(ModelError, match="did not answer"):
        await thread.step(session(model, "yard"), unit(0, feed="yard"))
    model.may_step.set()
    await thread.stop()


async def test_a_bug_in_the_engine_reaches_whoever_waits_whole() -> None:
    class Buggy(FakeModel):
        def step_together(self, steps: Sequence[Step]) -> list[Decision | ModelError]:
            raise ZeroDivisionError("a bug")

    model = Buggy()
    thread = ModelThread(model)
    with pytest.raises(ZeroDivisionError):
        await thread.step(session(model, "hall"), unit(0))
    await thread.stop()
