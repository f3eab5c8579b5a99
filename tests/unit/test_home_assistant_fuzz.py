"""Whatever comes on a command topic: no crash, an answer that can be read, and no effect unless the answer says so.

Twenty thousand messages and more against the real parser, the real desk and a real store in memory. Hypothesis chooses
the seeds of most of them (to build each part of each message costs it more than all that is tested), and some whole.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final, TypeVar, get_args

import psutil
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omni_watch.home_assistant.asked import FORMS, Code
from omni_watch.home_assistant.desk import REPORTED_MAX
from omni_watch.store.thread import SqlStore
from omni_watch.watch.modes import modes
from omni_watch.watch.ports import Transaction
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_line import TOPICS, AskedHouse
from tests.fakes.hearing import NOW
from tests.fakes.values import a_task

T = TypeVar("T")
Message = tuple[str, bytes, bool]  # topic, payload, retained

TOGETHER: Final = 100
SEEDS: Final = 210  # of so many messages: 21,000
CODES: Final = set(get_args(Code))
GROWTH_MAX: Final = 30_000_000  # bytes of the process in the second half: pages come and go
NASTY: Final = [
    "", "ON", "OFF", "PRESS", "10", "quiet", "\x00", "\x1b[2J", "\u202e", "\ud800", "{{ states('x') }}", "{% raw %}",
    "../../etc/passwd", "homeassistant/device/x/config", "#", "+", "$SYS/#", "'; DROP TABLE tasks; --", "%s%n", "NaN",
    "水壶满了告诉我", "tell me when it beeps", "stop watching for everything", "a" * 600, "🫖" * 130, "\r\n\r\n",
    "\ufeff", "yes", "all of them", "kettle01", "kettle01-1", "kitchen", "urgent", "what are you watching for",
]  # fmt: skip
NAMES: Final = sorted({key for form in FORMS.values() for key in form.all})
OPS: Final = list(FORMS)


def a_value(dice: Random, depth: int = 0) -> Any:
    match dice.randrange(6):
        case 0 | 1:
            return dice.choice(NASTY)
        case 2:
            return "".join(chr(dice.randrange(1, 0x3000)) for _ in range(dice.randrange(20)))
        case 3:
            return dice.choice([None, True, False, 0, 1, -1, 30, 10**25, 1.5, float("nan"), float("inf")])
        case 4:
            return [] if depth > 3 else [a_value(dice, depth + 1) for _ in range(dice.randrange(4))]
        case _:
            return {} if depth > 3 else {str(a_value(dice, 4)): a_value(dice, depth + 1)}


def a_document(dice: Random) -> Any:
    op = dice.choice(OPS)
    form = FORMS[op]
    right: dict[str, Any] = {
        "text": dice.choice(NASTY[-15:]), "message": "Now!", "match": "kettle", "task_id": "kettle01",
        "alert_id": "kettle01-1", "feed": "kitchen", "feeds": ["kitchen"], "once": True, "cooldown_s": 5,
        "expires_in_s": 60, "priority": "low", "minutes": 3, "on": dice.random() < 0.5, "mode": "quiet",
    }  # fmt: skip
    keys = [*form.needs, *form.one_of[:1], *dice.sample(form.takes, min(len(form.takes), dice.randrange(2)))]
    document: dict[str, Any] = {"v": 1, "op": op, "args": {key: right[key] for key in keys}}
    if dice.random() < 0.5:
        document["id"] = dice.choice("abcdef")
    for _ in range(dice.choice([0, 0, 1, 1, 2, 3])):  # wrong in so many places
        place = document["args"] if dice.random() < 0.6 and isinstance(document.get("args"), dict) else document
        key = dice.choice([*place, *NAMES, *NASTY, "v", "op", "id", "source", "lang", "args"])
        if dice.random() < 0.2:
            place.pop(key, None)
        else:
            place[key] = a_value(dice)
    return document


def a_payload(dice: Random) -> bytes:
    kind = dice.randrange(12)
    if kind == 0:
        return dice.randbytes(dice.randrange(60))
    if kind == 1:
        return dice.choice([b"[", b'{"a":', b"\xff", b" ", b"0"]) * dice.randrange(20_000)
    if kind in (2, 3, 4):
        return dice.choice(NASTY).encode("utf-8", "surrogatepass")
    written = json.dumps(a_document(dice), ensure_ascii=dice.random() < 0.5)
    match kind:
        case 5:
            return written.encode(dice.choice(["utf-16", "utf-32", "utf-7"]), "surrogatepass")
        case 6:
            return written.encode("utf-8", "surrogatepass")[: dice.randrange(len(written) + 1)]
        case 7:
            at = dice.randrange(len(written))
            return (written[:at] + dice.choice(NASTY) + written[at:]).encode("utf-8", "surrogatepass")
        case _:
            return written.encode("utf-8", "surrogatepass")


def a_topic(dice: Random) -> str:
    if dice.random() < 0.6:
        return TOPICS.request
    if dice.random() < 0.5:
        return f"{TOPICS.base}/set/{dice.choice(['mute', 'mode', 'new_task', 'say', '', 'request'])}"
    task_id = dice.choice(["kettle01", "kettle01", "nothing1", "", "A B", "..", "水", "x" * 99])
    if dice.random() < 0.1:
        return f"{TOPICS.base}/feed/{dice.choice(['kitchen', task_id])}/set/{dice.choice(['listen', '', 'ON'])}"
    return f"{TOPICS.base}/task/{task_id}/set/{dice.choice(['enabled', 'ack', 'snooze', 'delete', '', 'ON'])}"


def a_message(dice: Random) -> Message:
    return a_topic(dice), a_payload(dice), dice.random() < 0.05


WORDS = st.one_of(st.sampled_from(NASTY), st.text(max_size=24))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(WORDS, st.none(), st.booleans(), st.integers(-2, 10**25), st.floats(allow_nan=True)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=6,
)
DOCUMENTS = st.fixed_dictionaries(
    {"v": st.just(1), "op": st.sampled_from(OPS)},
    optional={"id": WORDS, "args": st.one_of(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3), VALUES)},
)
PAYLOADS = st.one_of(
    DOCUMENTS.map(lambda document: json.dumps(document).encode()),
    VALUES.map(lambda document: json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.binary(max_size=40),
)


class CountingStore:
    """A store that counts: what never comes to it has no effect."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.count = 0

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        self.count += 1
        return await self._store.transact(work)

    async def changed_elsewhere(self) -> bool:
        return False

    async def close(self) -> None:
        await self._store.close()


def held(tx: Transaction) -> Any:
    """All that a request can change, but for what the conversation remembers of itself."""
    return tx.tasks.all(), modes(tx), tx.notes.get("quiet"), tx.alerts.recent()


class Fuzz:
    """One house that is asked anything."""

    def __init__(self, store: CountingStore) -> None:
        self.store = store
        self.house = AskedHouse(store, FakeClock(NOW))
        self.messages = self.answers = self.done = 0

    async def reset(self) -> None:
        """One task, watched for."""

        def work(tx: Transaction) -> None:
            for task in tx.tasks.all():
                tx.tasks.delete(task.id)
            tx.tasks.add(a_task(set_at=NOW))

        await self.store.transact(work)
        self.before = await self.store.transact(held)

    async def send(self, messages: Sequence[Message]) -> None:
        for topic, payload, is_retained in messages:
            self.messages += 1
            self.house.clock.advance(4)  # within the limits, so that each is looked at
            self.store.count = 0
            self.house.line.arrive(topic, payload, is_retained=is_retained)
            await self.house.serve()
            is_done = self._is_done(topic, is_retained=is_retained)
            if self.store.count:
                now = await self.store.transact(held)
                assert is_done or now == self.before, f"{topic}: {payload[:200]!r} had an effect"
                self.before = now
            else:
                assert not is_done or b"snapshot" in payload or b"show" in payload, "done without the store"

    def _is_done(self, topic: str, *, is_retained: bool) -> bool:
        answers, self.house.line.published = self.house.line.published, []
        self.house.observer.events.clear()
        assert len(answers) == (0 if is_retained else 1), f"{topic}: {len(answers)} answers"
        if is_retained:
            return False
        ((place, body, _),) = answers
        assert place.startswith(f"{TOPICS.base}/reply/")
        assert len(body) < 100_000
        reply = json.loads(body.decode("utf-8"))
        assert reply["v"] == 1
        assert reply["ok"] or (reply["error"]["code"] in CODES and reply["error"]["message"])
        self.answers += 1
        self.done += reply["ok"]
        return bool(reply["ok"])


@asynccontextmanager
async def fuzzing() -> AsyncIterator[Fuzz]:
    store = await SqlStore.open(None)
    yield Fuzz(CountingStore(store))
    await store.close()


def test_whatever_comes_is_answered_and_only_what_is_answered_well_has_an_effect() -> None:
    resident = psutil.Process().memory_info
    with asyncio.Runner() as runner:
        opened = fuzzing()
        fuzz = runner.run(opened.__aenter__())
        sizes: list[int] = []

        @settings(max_examples=SEEDS, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(st.integers(0, 2**64 - 1))
        def send_many(seed: int) -> None:
            dice = Random(seed)
            runner.run(fuzz.reset())
            runner.run(fuzz.send([a_message(dice) for _ in range(TOGETHER)]))
            sizes.append(resident().rss)

        send_many()
        runner.run(opened.__aexit__(None, None, None))
    print(fuzz.messages, fuzz.answers, fuzz.done, sizes[-1] - sizes[len(sizes) // 2])
    assert fuzz.messages >= 20_000
    assert fuzz.done >= 1_000, "most of what is fuzzed should come near to being right"
    assert len(fuzz.house.desk._reported) <= REPORTED_MAX
    assert sizes[-1] - sizes[len(sizes) // 2] < GROWTH_MAX, "what came is not kept"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.just(TOPICS.request), PAYLOADS, st.just(False)), min_size=1, max_size=3))
def test_a_message_that_does_harm_would_be_made_small(messages: Sequence[Message]) -> None:
    async def play() -> None:
        async with fuzzing() as fuzz:
            await fuzz.reset()
            await fuzz.send(messages)

    asyncio.run(play())
