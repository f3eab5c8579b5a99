"""Devices that were deleted in Home Assistant while we were not running: known whichever we look at first."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from omni_watch.alerts.topics import HOUSE
from omni_watch.home_assistant.discovery import HIDDEN, Discovery, DiscoverySettings
from omni_watch.store.thread import SqlStore
from tests.fakes.fake_line import TOPICS, FakeLine
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.values import a_task

KETTLE, NODE = a_task("kettle01"), "omni_watch_home_t_kettle01"
TOPIC = f"homeassistant/device/{NODE}/config"
HUB = "homeassistant/device/omni_watch_home/config"


@pytest.fixture
async def store() -> AsyncIterator[SqlStore]:
    """Of a house that has told the kettle once."""
    store = await SqlStore.open(None)
    await store.transact(lambda tx: tx.topics.remember(TOPIC, KETTLE.id))
    await store.transact(lambda tx: tx.topics.remember(HUB, HOUSE))
    yield store
    await store.close()


@pytest.mark.parametrize("is_broker_first", [True, False])
@pytest.mark.parametrize(
    ("held", "is_deleted"),
    [
        ({TOPICS.task_state(KETTLE.id), HUB}, True),
        ({TOPICS.task_state(KETTLE.id), HUB, TOPIC}, False),
        ({HUB}, False),  # the broker has lost what came later
        ({TOPICS.task_state(KETTLE.id)}, False),  # the broker may not let us read what is under its prefix
        (set[str](), False),  # the broker has lost its memory
    ],
)
async def test_what_lacks_its_discovery_and_has_its_state_was_deleted(
    store: SqlStore, held: set[str], is_deleted: bool, is_broker_first: bool
) -> None:
    line = FakeLine()
    discovery = Discovery(
        line, store, TOPICS, ["kitchen"], settings=DiscoverySettings(), observer=FakeObserver(), silent={"kitchen"}
    )
    assert line.surveyor is not None
    if is_broker_first:
        line.surveyor(held)
        await discovery.sync([KETTLE])
    else:
        await discovery.sync([KETTLE])
        line.surveyor(held)
    await discovery.sync([KETTLE])
    assert (TOPIC not in line.held) is is_deleted
    kept = await store.transact(lambda tx: tx.notes.get(HIDDEN))
    assert (NODE in (kept or {"nodes": {}})["nodes"]) is is_deleted


async def test_what_was_never_told_was_never_deleted(store: SqlStore) -> None:
    line = FakeLine()
    discovery = Discovery(line, store, TOPICS, ["kitchen"], settings=DiscoverySettings(), observer=FakeObserver())
    assert line.surveyor is not None
    line.surveyor({TOPICS.feed_state("kitchen"), HUB})
    await discovery.sync([KETTLE])
    assert "homeassistant/device/omni_watch_home_f_kitchen/config" in line.held


async def test_only_a_feed_with_sound_has_a_switch_for_it(store: SqlStore) -> None:
    line = FakeLine()
    discovery = Discovery(
        line, store, TOPICS, ["kitchen", "hall"], settings=DiscoverySettings(), observer=FakeObserver(), silent={"hall"}
    )
    await discovery.sync([])
    has_switch = {
        name: b'"listen"' in line.held[f"homeassistant/device/omni_watch_home_f_{name}/config"]
        for name in ("kitchen", "hall")
    }
    assert has_switch == {"kitchen": True, "hall": False}
