"""Outbox -> channels: takes deliveries from the store, sends them, keeps what became of each. Retry, expire, give up.

Each channel has its own workers, so that one that is away never holds up another. Per channel one worker carries
urgent alerts and one the rest: an urgent alert need not wait behind one that is just being spoken. Within a worker
deliveries go one at a time, in the order of the store. A delivery is kept as `sending` before its channel hears of it
and as `sent` only after the receipt, so a crash can say a thing twice but never lose it; receivers key on the alert's
id and the delivery's number. What nobody need be told any more is let go when its turn comes.

Pauses after a failure are measured on the monotonic clock and belong to the channel, not to the delivery: order is
kept while the channel is away, and a wall clock that jumps changes nothing.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

from omni_watch.alerts.floor import until_silent
from omni_watch.domain.alerts import Alert, Delivery, DeliveryState, Receipt
from omni_watch.domain.errors import AlertRejected, ChannelUnavailable, Interrupted, StoreError
from omni_watch.domain.rules import Priority
from omni_watch.watch.ports import Channel, Clock, Observer, Store, Transaction
from omni_watch.watch.requests import after_delivery, no_longer_told

T = TypeVar("T")
_DICE: Final = random.SystemRandom()

BATCH: Final = 64  # deliveries looked at in one transaction
LONGEST_WAIT_S: Final = 60.0  # then the store is looked at again, whoever forgot to call
DETAIL_MAX: Final = 300  # characters of an error kept with a delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """How patient the relay is."""

    first_pause_s: float = 1.0  # after the first failure; doubles with each further one
    longest_pause_s: float = 60.0
    send_limit_s: float = 180.0  # a channel that has not answered by then counts as away
    tries_over_people: int = 5  # a delivery that people spoke over so often is theirs to ask for; not if it is urgent
    tries_of_a_bug: int = 5  # a delivery whose sending raises what a channel must not raise is then dead


@dataclass(frozen=True, slots=True)
class _Taken:
    """One delivery that was marked as being sent, and those that were found too old on the way."""

    alert: Alert | None = None
    delivery: Delivery | None = None
    expired: tuple[tuple[Alert, Delivery], ...] = ()
    wait_s: float = LONGEST_WAIT_S  # when nothing was taken: look again after so long


class Relay:
    """Finishes every delivery. Loop thread only.

    `jitter` gives 0..1 and spreads the pauses, so that many homes do not call on one broker in step.
    """

    def __init__(
        self,
        store: Store,
        channels: Sequence[Channel],
        clock: Clock,
        observer: Observer,
        *,
        settings: RelaySettings | None = None,
        jitter: Callable[[], float] = _DICE.random,
    ) -> None:
        self._settings = settings or RelaySettings()
        self._outbox = store
        self._store = _PatientStore(store, observer, self._settings)
        self._lanes = [
            _Lane(channel, is_urgent, self._store, clock, observer, self._settings, state)
            for channel in channels
            for state in [_ChannelState(self._settings, clock, jitter)]
            for is_urgent in (True, False)
        ]
        self._observer = observer
        self._workers: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Deliver until `drain` or cancellation.

        Raises:
            StoreError: the store cannot be used any more; it is not a matter of trying again.
        """
        stuck = await self._store.transact(lambda tx: tx.alerts.reset_sending())
        if stuck:
            self._observer.on("relay.resumed", deliveries=stuck)
        self._workers = [asyncio.create_task(lane.run(), name=f"relay {lane.name}") for lane in self._lanes]
        try:
            await _all_or_first_error(self._workers)
        finally:
            await _cancel(self._workers)

    def wake(self) -> None:
        """Look at the store now: something was committed."""
        for lane in self._lanes:
            lane.wake()

    async def let_go(self) -> None:
        """End what is just being told of alerts that somebody has dealt with: a voice falls silent.

        Raises:
            StoreError: it cannot be read.
        """
        held = [(lane, lane.in_hand) for lane in self._lanes if lane.in_hand is not None]
        if not held:
            return
        reasons = await self._outbox.transact(lambda tx: [no_longer_told(tx, delivery) for _, delivery in held])
        for (lane, delivery), why in zip(held, reasons, strict=True):
            if why is not None:
                lane.let_go(delivery, why)

    def retry_now(self, channel: str) -> None:
        """End the pause of a channel that is known to be back."""
        for lane in self._lanes:
            if lane.channel.name == channel:
                lane.state.recovered()

    async def drain(self, deadline_s: float) -> int:
        """Send what can be sent within `deadline_s` seconds, then stop; how many deliveries stay for the next start.

        Channels that are away are not waited for. What is cut off stays `sending` in the store and is pending again
        at the next start.

        Raises:
            StoreError: they cannot be counted.
        """
        for lane in self._lanes:
            lane.stop_when_idle()
        if self._workers:
            await asyncio.wait(self._workers, timeout=deadline_s)
            await _cancel(self._workers)
        return await self._outbox.transact(lambda tx: tx.alerts.unfinished())


class _PatientStore:
    """A store whose passing troubles (busy, disk full for a moment) are waited out, with a growing pause."""

    def __init__(self, store: Store, observer: Observer, settings: RelaySettings) -> None:
        self._store = store
        self._observer = observer
        self._settings = settings

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        failures = 0
        while True:
            try:
                return await self._store.transact(work)
            except StoreError as error:
                if not error.can_retry:
                    raise
                failures += 1
                self._observer.on("relay.store_busy", why=str(error), failures=failures)
            await asyncio.sleep(pause_s(failures, self._settings))


class _ChannelState:
    """Whether a channel is thought to be away, and until when it is left alone. Shared by its two lanes."""

    def __init__(self, settings: RelaySettings, clock: Clock, jitter: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._until_s: float | None = None
        self.bells: list[asyncio.Event] = []  # of the lanes

    @property
    def pause_left_s(self) -> float:
        """Seconds for which the channel should still be left alone; 0 when it may be tried."""
        return 0.0 if self._until_s is None else max(0.0, self._until_s - self._clock.monotonic())

    @property
    def is_away(self) -> bool:
        return self._failures > 0

    def failed(self) -> float:
        """Begin the next pause; its length in seconds."""
        self._failures += 1
        length_s = pause_s(self._failures, self._settings, self._jitter())
        self._until_s = self._clock.monotonic() + length_s
        return length_s

    def recovered(self) -> None:
        """End the pause, for whoever waits for its end."""
        self._failures = 0
        self._until_s = None
        for bell in self.bells:
            bell.set()


class _Lane:
    """One worker: the urgent deliveries of a channel, or the others."""

    def __init__(
        self,
        channel: Channel,
        is_urgent: bool,
        store: _PatientStore,
        clock: Clock,
        observer: Observer,
        settings: RelaySettings,
        state: _ChannelState,
    ) -> None:
        self.channel = channel
        self.name = f"{channel.name}{' urgent' if is_urgent else ''}"
        self.state = state
        self._is_urgent = is_urgent
        self._store = store
        self._clock = clock
        self._observer = observer
        self._settings = settings
        self._called = asyncio.Event()
        state.bells.append(self._called)
        self._stops_when_idle = False
        self.in_hand: Delivery | None = None  # what is just being sent
        self._let_go: asyncio.Future[str] | None = None  # done, with the reason, when that is not to be told any more

    def let_go(self, delivery: Delivery, why: str) -> None:
        """Tell it to nobody any more, if it is still being sent."""
        if self.in_hand == delivery and self._let_go is not None and not self._let_go.done():
            self._let_go.set_result(why)

    def wake(self) -> None:
        self._called.set()

    def stop_when_idle(self) -> None:
        self._stops_when_idle = True
        self._called.set()

    async def run(self) -> None:
        """Take and deliver, one at a time; wait when there is nothing to do."""
        while True:
            left_s = self._pause_left_s()
            self._called.clear()
            taken = await self._store.transact(self._take_in) if left_s == 0 else _Taken(wait_s=left_s)
            for alert, delivery in taken.expired:
                self._tell(alert, delivery)
            if taken.alert is not None and taken.delivery is not None:
                await self._deliver(taken.alert, taken.delivery)
            elif self._stops_when_idle:
                return
            elif not taken.expired:
                await self._wait(taken.wait_s)

    def _pause_left_s(self) -> float:
        """An urgent alert is tried at once when it is committed, even while the channel is thought to be away."""
        is_called = self._called.is_set() and not self._stops_when_idle
        return 0.0 if self._is_urgent and is_called else self.state.pause_left_s

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._called.wait()

    def _take_in(self, tx: Transaction) -> _Taken:
        """In one transaction: expire what is too old or need not be told any more, mark the first of the rest as being
        sent."""
        now = self._clock.now()
        due = tx.alerts.due(self.channel.name, now, BATCH)
        ours = [row for row in due if (row[0].priority is Priority.URGENT) is self._is_urgent]
        expired: list[tuple[Alert, Delivery]] = []
        first: tuple[Alert, Delivery] | None = None
        for alert, delivery in ours:
            why = "too old to be told here" if now >= delivery.expires_at else None
            if first is None:
                why = why or no_longer_told(tx, delivery)
            if why is not None:
                expired.append((alert, delivery.to(DeliveryState.EXPIRED, detail=why)))
                after_delivery(tx, *expired[-1], now)
            elif first is None:
                first = (alert, delivery)
        if first is None:
            return _Taken(expired=tuple(expired), wait_s=self._wait_s(tx))
        alert, delivery = first
        sending = delivery.to(DeliveryState.SENDING, attempts=delivery.attempts + 1)
        after_delivery(tx, alert, sending, now)
        return _Taken(alert, sending, tuple(expired))

    def _wait_s(self, tx: Transaction) -> float:
        """Until the next delivery of this channel may go; those due now belong to the other lane."""
        next_at = tx.alerts.next_due_at(self.channel.name)
        left_s = (next_at - self._clock.now()).total_seconds() if next_at is not None else 0.0
        return min(left_s, LONGEST_WAIT_S) if left_s > 0 else LONGEST_WAIT_S

    async def _deliver(self, alert: Alert, sending: Delivery) -> None:
        """Send once and keep what became of it."""
        try:
            async with asyncio.timeout(self._settings.send_limit_s):
                receipt = await self._send(alert, sending)
        except _LetGoError as error:
            after = sending.to(DeliveryState.EXPIRED, detail=str(error))
        except Interrupted as error:
            after = self._interrupted(alert, sending, error)
        except ChannelUnavailable as error:
            after = self._unavailable(sending, str(error))
        except TimeoutError:
            after = self._unavailable(sending, f"no answer within {self._settings.send_limit_s:g} s")
        except AlertRejected as error:
            after = sending.to(DeliveryState.DEAD, detail=_short(str(error)))
        except Exception as error:  # noqa: BLE001  a bug in one channel must not silence the others: the one broad handler
            after = self._broken(alert, sending, error)
        else:
            after = self._sent(sending, receipt)
        await self._keep(alert, after)
        self._tell(alert, after)

    async def _send(self, alert: Alert, sending: Delivery) -> Receipt:
        """What the channel says, unless the alert is over before; then the channel has fallen silent."""
        let_go: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.in_hand, self._let_go = sending, let_go
        telling = asyncio.ensure_future(self.channel.send(alert, sending))
        try:
            await until_silent(telling, let_go)
        finally:
            self.in_hand = self._let_go = None
        if let_go.done() and telling.cancelled():
            raise _LetGoError(let_go.result())
        return telling.result()

    def _sent(self, sending: Delivery, receipt: Receipt) -> Delivery:
        if self.state.is_away:
            self._observer.on("channel.back", channel=self.channel.name)
            self.state.recovered()
        return sending.to(DeliveryState.SENT, detail=_short(receipt.detail))

    def _interrupted(self, alert: Alert, sending: Delivery, error: Interrupted) -> Delivery:
        """The channel is there, so nothing else waits. Within bounds it is offered again once the person has spoken."""
        again_at = self._clock.now() + timedelta(seconds=error.again_in_s)
        is_urgent = alert.priority is Priority.URGENT
        if sending.attempts >= self._settings.tries_over_people and not is_urgent:
            return sending.to(DeliveryState.EXPIRED, detail=f"people spoke over it {sending.attempts} times")
        if again_at >= sending.expires_at:
            return sending.to(DeliveryState.EXPIRED, detail=_short(f"too old to be told here; last: {error}"))
        return sending.to(DeliveryState.PENDING, detail=_short(str(error)), due_at=again_at)

    def _unavailable(self, sending: Delivery, why: str) -> Delivery:
        if self._clock.now() >= sending.expires_at:
            return sending.to(DeliveryState.EXPIRED, detail=_short(f"too old to be told here; last: {why}"))
        was_away = self.state.is_away
        wait_s = self.state.failed()
        if not was_away:
            self._observer.on("channel.away", channel=self.channel.name, why=why, retry_in_s=round(wait_s, 1))
        return sending.to(DeliveryState.PENDING, detail=_short(why))

    def _broken(self, alert: Alert, sending: Delivery, error: Exception) -> Delivery:
        """Only this delivery waits: the next one may be a good one."""
        self._observer.on(
            "channel.bug",
            channel=self.channel.name,
            alert_id=alert.id,
            attempts=sending.attempts,
            traceback="".join(traceback.format_exception(error)),
        )
        detail = _short(f"{type(error).__name__}: {error}")
        if sending.attempts >= self._settings.tries_of_a_bug:
            return sending.to(DeliveryState.DEAD, detail=detail)
        again_at = self._clock.now() + timedelta(seconds=pause_s(sending.attempts, self._settings))
        return sending.to(DeliveryState.PENDING, detail=detail, due_at=again_at)

    async def _keep(self, alert: Alert, after: Delivery) -> None:
        def work(tx: Transaction) -> None:
            if tx.alerts.get(alert.id) is not None:  # else its task was deleted meanwhile, and the alert with it
                after_delivery(tx, alert, after, self._clock.now())

        await self._store.transact(work)

    def _tell(self, alert: Alert, delivery: Delivery) -> None:
        now = self._clock.now()
        since = alert.decided_at if delivery.number == 0 else delivery.due_at
        self._observer.on(
            f"delivery.{delivery.state.value}",
            alert_id=alert.id,
            task_id=alert.task_id,
            channel=self.channel.name,
            transition=delivery.transition.value,
            number=delivery.number,
            attempts=delivery.attempts,
            late_s=round((now - since).total_seconds(), 3),
            delay_s=round((now - alert.condition_at).total_seconds(), 3),
            detail=delivery.detail,
        )


class _LetGoError(Exception):
    """What was being sent need not be told any more."""


def pause_s(failures: int, settings: RelaySettings, jitter: float = 1.0) -> float:
    """Seconds to leave a channel alone after so many failures in a row (1, 2, …): doubling, half of it at random."""
    doubled = settings.first_pause_s * 2.0 ** min(failures - 1, 30)
    return float(min(doubled, settings.longest_pause_s) * (0.5 + 0.5 * jitter))


def _short(detail: str) -> str:
    line = " ".join(detail.split())
    return line if len(line) <= DETAIL_MAX else line[: DETAIL_MAX - 1] + "…"


async def _all_or_first_error(workers: Sequence[asyncio.Task[None]]) -> None:
    if workers:
        done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        for worker in done:
            if not worker.cancelled():  # by `drain`
                worker.result()


async def _cancel(workers: Sequence[asyncio.Task[None]]) -> None:
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
