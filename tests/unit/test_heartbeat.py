"""The loop from unit to committed alert, without devices, models or a database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from omni_watch.domain.alerts import Alert
from omni_watch.domain.decisions import Decision, Listen, Means, Reading, Speak, Utterance
from omni_watch.domain.errors import ModelError, StoreError
from omni_watch.domain.rules import Priority
from omni_watch.domain.tasks import Task, TaskState
from omni_watch.domain.units import Frame, Unit
from omni_watch.watch.briefing import Briefing
from omni_watch.watch.heartbeat import FAILURES_MAX, UNCOMMITTED_MAX, Heartbeat, LagLimits
from omni_watch.watch.roster import Roster
from omni_watch.watch.stepping import ModelThread
from tests.fakes.fake_clock import NOON, FakeClock
from tests.fakes.fake_feed import FakeFeed, unit
from tests.fakes.fake_model import FakeModel
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.fake_store import FakeStore


class FakeSnapshots:
    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Frame]] = {}

    async def keep(self, alert_id: str, frames: Mapping[str, Frame]) -> None:
        self.kept[alert_id] = dict(frames)

    async def load(self, alert_id: str, name: str = "now") -> bytes | None:
        return None

    async def forget(self, alert_ids: Sequence[str]) -> None:
        pass


@dataclass
class House:
    """One feed's heart on the bench."""

    model: FakeModel
    clock: FakeClock = field(default_factory=FakeClock)
    store: FakeStore = field(default_factory=FakeStore)
    observer: FakeObserver = field(default_factory=FakeObserver)
    snapshots: FakeSnapshots = field(default_factory=FakeSnapshots)
    told: list[Alert] = field(default_factory=list)
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "fitting"))

    def __post_init__(self) -> None:
        self.roster = Roster(
            "kitchen",
            store=self.store,
            rules={},
            model=self.model,
            fitting=self.pool,
            clock=self.clock,
            observer=self.observer,
        )
        self.heart = Heartbeat(
            FakeFeed([]),
            self.roster,
            store=self.store,
            snapshots=self.snapshots,
            model_thread=ModelThread(self.model),
            clock=self.clock,
            observer=self.observer,
            expiries_s=lambda priority: {"mqtt": 3600.0, "voice": 600.0 if priority is Priority.URGENT else 60.0},
            on_alerts=self.told.extend,
            limits=LagLimits(shed_s=2.0, skip_s=3.0),
        )

    async def set_task(self, task: Task) -> None:
        await self.store.transact(lambda tx: tx.tasks.add(task))
        await self.roster.look(self.clock.now())
        await self.roster.settled()

    async def beat(self, index: int, *, late_s: float = 0.0) -> tuple[Alert, ...]:
        return await self.heart.beat(unit(index, start_s=self.clock.monotonic() - 1 - late_s))


def kettle(**changes: object) -> Task:
    values: dict[str, object] = {
        "id": "k3",
        "text": "tell me when the kettle is full",
        "language": "en",
        "message": "The kettle is full.",
        "set_by": "test",
        "set_at": NOON,
    }
    return Task(**(values | changes))  # type: ignore[arg-type]


def says(*happens_at: int) -> object:
    """A script in which the condition is false except in the units named."""

    def script(heard: Unit, briefing: Briefing) -> Decision:
        task_ids = [briefed.task.id for briefed in briefing.tasks]
        happens = heard.index in happens_at and task_ids
        readings = tuple(Reading(task_id=task_id, score=0.9, margin=1.0, holds=bool(happens)) for task_id in task_ids)
        if not happens:
            return Listen(readings=readings)
        utterances = tuple(
            Utterance(
                text="The kettle is full.",
                task_id=task_id,
                confidence=0.9,
                means=(Means.MODEL,),
                condition_at_s=heard.end_s - 1.5,
            )
            for task_id in task_ids
        )
        return Speak(utterances=utterances, readings=readings)

    return script


@pytest.fixture
def house() -> Iterator[House]:
    bench = House(FakeModel(says(2)))  # type: ignore[arg-type]
    yield bench
    bench.pool.shutdown()


async def test_an_alert_is_committed_with_its_task_and_one_delivery_per_channel_before_anyone_is_told(
    house: House,
) -> None:
    await house.set_task(kettle())
    for index in range(4):
        await house.beat(index)

    (alert,) = house.told
    shelves = house.store.shelves
    assert shelves.alerts == {"k3-1": alert}
    assert shelves.tasks["k3"].state is TaskState.FIRED
    assert sorted(channel for _, channel, _ in shelves.deliveries) == ["mqtt", "voice"]
    assert alert.condition_at == house.clock.now() - timedelta(seconds=1.5)


async def test_the_snapshots_are_the_deciding_frame_and_the_one_two_seconds_before(house: House) -> None:
    await house.set_task(kettle())
    for index in range(3):
        await house.beat(index)
        house.clock.advance(1)
    frames = house.snapshots.kept["k3-1"]
    assert frames["now"].at_s - frames["before"].at_s == pytest.approx(2.0)


async def test_when_deciding_is_late_pictures_go_first_then_whole_units_and_both_are_recorded(house: House) -> None:
    await house.set_task(kettle())
    await house.beat(0, late_s=1.9)
    await house.beat(1, late_s=2.5)
    await house.beat(2, late_s=3.5)

    (session,) = house.model.sessions
    assert [(shown.index, shown.frame is None) for shown in session.units] == [(0, False), (1, True)]
    assert house.observer.named("unit.shed")[0]["index"] == 1
    assert house.observer.named("unit.skipped")[0]["index"] == 2


async def test_a_store_that_cannot_be_written_delays_an_alert_and_loses_nothing(house: House) -> None:
    await house.set_task(kettle())
    await house.beat(0)
    house.store.failures = [StoreError("disk full"), StoreError("disk full")]
    await house.beat(2)
    await house.beat(3)
    assert house.told == []
    assert len(house.observer.named("store.failed")) == 2

    await house.beat(4)
    assert [alert.id for alert in house.told] == ["k3-1"]


async def test_what_waits_for_a_broken_store_is_bounded_and_says_what_it_drops() -> None:
    calls = iter(range(1000))

    def flickers(heard: Unit, briefing: Briefing) -> Decision:
        holds = next(calls) % 2 == 0  # every unit changes the ledger, so every unit has something to commit
        return Listen(readings=(Reading(task_id="k3", score=0.5, margin=0.0, holds=holds),))

    house = House(FakeModel(flickers))
    await house.set_task(kettle())
    house.store.failures = [StoreError("disk full")] * (UNCOMMITTED_MAX + 3)
    for index in range(UNCOMMITTED_MAX + 2):
        await house.beat(index)
    assert len(house.observer.named("verdict.dropped")) == 2
    house.pool.shutdown()


async def test_a_task_cancelled_from_elsewhere_while_its_unit_was_decided_is_not_told(house: House) -> None:
    await house.set_task(kettle())
    await house.beat(0)
    cancelled = kettle().to(TaskState.CANCELLED)
    await house.store.transact(lambda tx: tx.tasks.save(cancelled))  # the roster has not looked again yet
    await house.beat(2)
    assert house.told == []
    assert house.store.shelves.tasks["k3"].state is TaskState.CANCELLED


async def test_a_new_task_never_stops_the_heart_and_takes_over_between_two_units(house: House) -> None:
    await house.set_task(kettle())
    await house.beat(0)
    house.model.may_open.clear()
    with ThreadPoolExecutor(1, "fitting") as fitting:
        house.roster._fitting = fitting
        await house.store.transact(lambda tx: tx.tasks.add(kettle(id="d1", text="tell me when the door opens")))
        await house.roster.look(house.clock.now())
        await house.beat(1)
        assert len(house.model.sessions) == 1, "the old session goes on while the new one is prepared"

        house.model.may_open.set()
        await house.roster.settled()
        await house.beat(3)
    old, new = house.model.sessions
    assert new.after is old
    assert [shown.index for shown in new.units] == [3]
    assert old.is_closed


async def test_a_counter_or_a_cooldown_needs_no_new_session(house: House) -> None:
    await house.set_task(kettle())
    await house.store.transact(lambda tx: tx.tasks.save(kettle(fired_count=7)))
    await house.roster.look(house.clock.now())
    await house.roster.settled()
    assert len(house.model.sessions) == 1
    assert house.roster.tasks["k3"].fired_count == 7


async def test_a_session_that_fails_is_forgotten_and_the_error_goes_up(house: House) -> None:
    def breaks(heard: Unit, briefing: Briefing) -> Decision:
        raise ModelError("NaN in the logits", can_retry=True)

    await house.set_task(kettle())
    house.model.sessions[0]._script = breaks
    house.model.script = says(9)  # type: ignore[assignment]
    with pytest.raises(ModelError, match="NaN"):
        await house.beat(0)
    await house.roster.look(house.clock.now())
    await house.roster.settled()
    await house.beat(1)
    assert house.model.sessions[-1].units[0].index == 1


async def test_when_no_session_can_be_opened_at_all_the_start_says_so(house: House) -> None:
    house.model.fails_with = ModelError("the picture network is missing")
    await house.store.transact(lambda tx: tx.tasks.add(kettle()))
    await house.roster.look(house.clock.now())
    with pytest.raises(ModelError, match="picture network is missing"):
        await house.roster.settled()


async def test_every_step_runs_on_the_one_model_thread(house: House) -> None:
    await house.set_task(kettle())
    for index in range(3):
        await house.beat(index)
    assert house.model.sessions[0].threads == {"model"}


async def test_a_session_that_fails_now_and_then_is_replaced_and_the_feed_goes_on(house: House) -> None:
    healthy = says(8)

    def stumbles(heard: Unit, briefing: Briefing) -> Decision:
        if heard.index == 3:
            raise ModelError("CUDA out of memory", can_retry=True)
        return healthy(heard, briefing)  # type: ignore[operator,no-any-return]

    house.model.script = stumbles
    await house.store.transact(lambda tx: tx.tasks.add(kettle()))
    now_s = house.clock.monotonic()
    house.heart._feed = FakeFeed([unit(index, start_s=now_s - 1) for index in range(10)])
    await house.heart.run()

    assert [alert.id for alert in house.told] == ["k3-1"]
    assert len(house.observer.named("engine.restarted")) == 1
    assert [len(session.units) for session in house.model.sessions] == [4, 6]


async def test_a_session_that_fails_every_time_ends_the_run(house: House) -> None:
    def broken(heard: Unit, briefing: Briefing) -> Decision:
        raise ModelError("the device is gone", can_retry=True)

    house.model.script = broken
    house.heart._feed = FakeFeed([unit(index, start_s=house.clock.monotonic() - 1) for index in range(20)])
    with pytest.raises(ModelError, match="device is gone"):
        await house.heart.run()
    assert len(house.model.sessions) == FAILURES_MAX
