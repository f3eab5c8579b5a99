"""Where what is asked over MQTT is taken, done and answered, one after the other.

A message is looked at on the loop, done on the store's thread, and always answered, unless so much comes that answers
would be a flood of their own. Retained messages are never done: they would be done again at each connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from omni_watch.alerts.broker import Incoming, OnMessage
from omni_watch.alerts.messages import REPLY_TO, TopicNames, as_json
from omni_watch.domain.errors import ChannelError, StoreError
from omni_watch.home_assistant.asked import FORMS, Asked, Op, Refused
from omni_watch.home_assistant.carrying_out import Done, House, as_error, do, keep_answer
from omni_watch.home_assistant.devices import COMMAND, task_node
from omni_watch.home_assistant.limits import Bucket
from omni_watch.home_assistant.parsing import parse_command, parse_request, shown
from omni_watch.watch.ports import Clock, Observer, Store

WAITING_MAX: Final = 32  # requests; more are refused, and beyond that dropped and counted
REPLY_EXPIRY_S: Final = 60
CORRELATION_MAX: Final = 256  # bytes
REPORTED_MAX: Final = 64  # topics with a retained command that were told
JSON: Final = "application/json"
JPEG: Final = "image/jpeg"


class Line(Protocol):
    """The part of the MQTT channel that requests need."""

    def listen(self, topics: str, on_message: OnMessage) -> None: ...
    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        content_type: str = JSON,
        expiry_s: int | None = None,
        correlation: bytes | None = None,
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What requests need of the running house besides its store. All on the loop."""

    house: Callable[[], House]  # may take seconds; called at the start and by `renew`, on a thread of its own
    on_change: Callable[[], None] = lambda: None  # something was changed in the store
    on_hush: Callable[[], None] = lambda: None  # what is being said shall end
    picture: Callable[[str], Awaitable[bytes | None]] | None = None  # what a feed shows now, as JPEG
    show: Callable[[str | None], Awaitable[int]] | None = None  # a device that was deleted in Home Assistant, or all


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """Something to be done or refused, and where to answer."""

    asked: Asked | Refused
    topic: str
    correlation: bytes | None
    command: str | None  # the plain command's name


class Desk:
    """Loop thread only."""

    def __init__(
        self, line: Line, store: Store, topics: TopicNames, hands: Hands, *, clock: Clock, observer: Observer
    ) -> None:
        self._line = line
        self._store = store
        self._topics = topics
        self._hands = hands
        self._clock = clock
        self._observer = observer
        self._house: House | None = None
        self._waiting: asyncio.Queue[_Item] = asyncio.Queue(WAITING_MAX)
        self._all = Bucket(10, 10)
        self._refusals = Bucket(10, 10)
        self._by_op: dict[Op, Bucket] = {
            "task.add": Bucket(3, 0.3),
            "say": (sentences := Bucket(5, 0.5)),  # to understand one takes the store's thread for a tenth of a second
            "ask": sentences,
            "snapshot": Bucket(2, 0.5),
        }
        self._reported: set[str] = set()
        self._dropped = 0  # and not told yet
        self._drop_told_s = -1.0  # monotonic
        line.listen(topics.request, self._on_request)
        line.listen(topics.command("+"), self._on_command)
        line.listen(topics.task_commands, self._on_command)
        line.listen(topics.feed_commands, self._on_command)

    async def run(self) -> None:
        """Do what is asked until cancelled."""
        if self._house is None:
            self._house = await asyncio.to_thread(self._hands.house)
        while True:
            await self._serve(await self._waiting.get(), self._house)

    async def renew(self) -> None:
        """The rules of the house have changed: look at it again."""
        if self._house is not None:
            self._house = await asyncio.to_thread(self._hands.house)

    # --- taking ---

    def _on_request(self, message: Incoming) -> None:
        if self._is_retained(message) or not self._is_heard():
            return
        topic, correlation = self._reply_to(message)
        try:
            asked: Asked | Refused = parse_request(message.payload)
        except Refused as refusal:
            asked = refusal
        request_id = asked.request_id if isinstance(asked, Refused) else asked.id
        if topic is None:
            topic = self._topics.reply(request_id or COMMAND)
            if message.response_topic is not None and isinstance(asked, Asked):
                place = f"{self._topics.base}/reply/"
                asked = Refused("bad_request", f"a response topic must be one level below {place}", "response topic")
                asked.request_id = request_id
        self._take(_Item(asked=asked, topic=topic, correlation=correlation, command=None))

    def _on_command(self, message: Incoming) -> None:
        if self._is_retained(message) or not self._is_heard():
            return
        levels = message.topic.removeprefix(f"{self._topics.base}/").split("/")
        named = {levels[0]: levels[1]} if len(levels) == 4 else {}
        try:
            asked: Asked | Refused = parse_command(levels[-1], message.payload, named.get("task"), named.get("feed"))
        except Refused as refusal:
            asked = refusal
        command = "/".join(shown(level).strip("'\"") for level in levels)
        self._take(_Item(asked=asked, topic=self._topics.reply(COMMAND), correlation=None, command=command))

    def _is_retained(self, message: Incoming) -> bool:
        if not message.is_retained:
            return False
        if message.topic not in self._reported and len(self._reported) < REPORTED_MAX:
            self._reported.add(message.topic)
            how = f"clear it: mosquitto_pub -r -n -t {message.topic!r}"
            self._observer.on("mqtt.retained_command", topic=shown(message.topic), what_to_do=how)
        return True

    def _is_heard(self) -> bool:
        """Whether it is looked at: not when more comes than can be refused in peace."""
        now_s = self._clock.monotonic()
        if self._all.take(now_s):
            return True
        if self._refusals.take(now_s):
            self._take(
                _Item(
                    asked=Refused("rate_limited", "more than ten requests in a second; this one was not looked at"),
                    topic=self._topics.reply(COMMAND),
                    correlation=None,
                    command=None,
                )
            )
        else:
            self._drop(now_s)
        return False

    def _take(self, item: _Item) -> None:
        if isinstance(item.asked, Asked):
            bucket = self._by_op.get(item.asked.op)
            if bucket is not None and not bucket.take(self._clock.monotonic()):
                item = _refused(item, Refused("rate_limited", f"too many {item.asked.op} in a short while; wait a bit"))
        try:
            self._waiting.put_nowait(item)
        except asyncio.QueueFull:
            self._drop(self._clock.monotonic())

    def _drop(self, now_s: float) -> None:
        """Count it; tell at most once a second, or the log would be the flood."""
        self._dropped += 1
        if now_s - self._drop_told_s >= 1.0:
            self._observer.on("mqtt.request_dropped", count=self._dropped)
            self._dropped, self._drop_told_s = 0, now_s

    def _reply_to(self, message: Incoming) -> tuple[str | None, bytes | None]:
        """Where MQTT 5 asks us to answer, if that is a place for answers: else anybody could make us publish
        anywhere."""
        wanted, correlation = message.response_topic, message.correlation
        if correlation is not None and len(correlation) > CORRELATION_MAX:
            correlation = None
        if wanted is None or not wanted.startswith(f"{self._topics.base}/reply/"):
            return None, correlation
        last = wanted.removeprefix(f"{self._topics.base}/reply/")
        return (wanted if REPLY_TO.fullmatch(last) else None), correlation

    # --- doing ---

    async def _serve(self, item: _Item, house: House) -> None:
        asked, body = item.asked, dict[str, Any]()
        try:
            if isinstance(asked, Refused):
                raise asked
            done = await self._do(asked, house)
            body = {"ok": True, "result": done.result}
        except Refused as refusal:
            body = {"ok": False, "error": as_error(refusal)}
            await self._remember(asked, body["error"])
        except StoreError as error:
            self._observer.on("store.failed", why=str(error))
            body = {"ok": False, "error": as_error(Refused("unavailable", "it could not be kept; try again later"))}
        self._tell(item, body)
        await self._answer(item, body)

    async def _do(self, asked: Asked, house: House) -> Done:
        if asked.op == "snapshot":
            return await self._snapshot(asked.args.feed or "")
        if asked.op == "show":
            return await self._show(asked.args.task_id)
        now = self._clock.now()
        done = await self._store.transact(lambda tx: do(tx, asked, house, now))
        if done.is_hush:
            self._hands.on_hush()
        if done.is_change:
            self._hands.on_change()
        return done

    async def _snapshot(self, feed: str) -> Done:
        jpeg = None if self._hands.picture is None else await self._hands.picture(feed)
        if jpeg is None:
            raise Refused("not_found", f"there is no feed {feed}, or it shows nothing now", "args.feed")
        try:
            await self._line.publish(self._topics.snapshot, jpeg, content_type=JPEG)
        except ChannelError as error:
            raise Refused("unavailable", str(error)) from error
        return Done(result={"feed": feed, "bytes": len(jpeg), "message": f"what {feed} shows now"})

    async def _show(self, task_id: str | None) -> Done:
        if self._hands.show is None:
            raise Refused("unavailable", "discovery is switched off")
        count = await self._hands.show(None if task_id is None else task_node(self._topics, task_id))
        return Done(result={"shown": count, "message": f"{count} devices are shown again"})

    async def _remember(self, asked: Asked | Refused, error: dict[str, Any]) -> None:
        """A refusal is an answer too: the same request a moment later must not be done after all."""
        if isinstance(asked, Refused) or asked.id is None or not FORMS[asked.op].is_change:
            return
        now = self._clock.now()
        try:
            await self._store.transact(lambda tx: keep_answer(tx, asked, {"error": error}, now))
        except StoreError as failure:
            self._observer.on("store.failed", why=str(failure))

    def _tell(self, item: _Item, body: dict[str, Any]) -> None:
        asked = item.asked
        op, source = ("", "") if isinstance(asked, Refused) else (asked.op, asked.source)
        self._observer.on("mqtt.request", op=op, source=source, code=body.get("error", {}).get("code", "ok"))

    async def _answer(self, item: _Item, body: dict[str, Any]) -> None:
        asked = item.asked
        request_id = asked.request_id if isinstance(asked, Refused) else asked.id
        named = {"id": request_id} if item.command is None else {"command": item.command}
        reply = as_json({"v": 1, **named, **body})
        try:
            await self._line.publish(item.topic, reply, expiry_s=REPLY_EXPIRY_S, correlation=item.correlation)
        except ChannelError as error:
            self._observer.on("mqtt.reply_dropped", why=str(error))


def _refused(item: _Item, refusal: Refused) -> _Item:
    refusal.request_id = item.asked.id if isinstance(item.asked, Asked) else None
    return _Item(asked=refusal, topic=item.topic, correlation=item.correlation, command=item.command)
