"""What a companion says with the model's own voice: played piece by piece, as the pieces come, now or never.

A turn of speech waits for the floor like everybody, at the lowest priority, but only for as long as it still fits the
moment. Whatever keeps it from being heard to its end (an urgent alert, somebody else's long sentence, a vocoder that
stops) also ends the model's turn, so that nobody talks on unheard.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from omni_watch.alerts.floor import Floor, Rank, until_silent
from omni_watch.alerts.quiet import Quiet
from omni_watch.alerts.speakers import Speaker
from omni_watch.domain.alerts import Alert
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.domain.rules import Priority
from omni_watch.watch.ports import Clock, LivePiece, Observer

STALE_S: Final = 4.0  # a turn that could not begin within so long is not begun any more
PATIENCE_S: Final = 5.0  # for the next piece of a turn; the model says one each second
TURNS_MAX: Final = 4  # waiting or speaking; a further one is dropped, and reported
SLOP_S: Final = 0.5  # half a unit: a clock that is set right meanwhile
PIECES_MAX: Final = 16  # of one turn that wait to be played; a turn that falls further behind is dropped


@dataclass(slots=True, eq=False)
class _Turn:
    """What one feed says from one beginning to one end."""

    feed: str
    number: int
    rate_hz: int
    began_s: float  # feed timeline
    last_s: float
    offered_at_s: float  # monotonic
    pieces: deque[bytes] = field(default_factory=deque)
    has_come: asyncio.Event = field(default_factory=asyncio.Event)
    is_complete: bool = False  # its last piece has come
    was_heard: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, was_heard: bool) -> None:
        if not self.was_heard.done():
            self.was_heard.set_result(was_heard)


class LiveVoice:
    """The lane from an engine's own voice to the loudspeaker. Loop thread only.

    `hush` is told of a feed whose turn shall end: the engine's own.
    """

    def __init__(
        self,
        speaker: Speaker,
        floor: Floor,
        *,
        hush: Callable[[str], None],
        clock: Clock,
        observer: Observer,
        quiet: Quiet | None = None,
    ) -> None:
        self._speaker = speaker
        self._floor = floor
        self._hush = hush
        self._clock = clock
        self._observer = observer
        self._turns: deque[_Turn] = deque()  # those not settled yet, oldest first
        self._newest: dict[str, _Turn] = {}  # by feed, also when it is over
        self._has_come = asyncio.Event()
        self._quiet = quiet or Quiet()

    def offer(self, piece: LivePiece) -> None:
        """Play it after the pieces before it, as soon as nobody else speaks, or not at all. Returns at once.

        A turn is announced by a piece without samples, before any of its sound is there.
        """
        turn = self._newest.get(piece.feed)
        if turn is None or turn.number < piece.turn:
            turn = self._begin(piece)
        if turn.number != piece.turn or turn.was_heard.done():
            return  # of a turn that was given up
        turn.last_s = max(turn.last_s, piece.at_s)
        if piece.is_lost:
            self._give_up(turn, "its sound could not be made", hush=False)
            return
        if len(turn.pieces) >= PIECES_MAX:
            self._give_up(turn, "others speak")
            return
        if piece.pcm:
            turn.pieces.append(piece.pcm)
        turn.is_complete |= piece.ends_turn
        turn.has_come.set()

    def quiet(self) -> None:
        """Fall silent within 50 ms, and let nothing wait."""
        for turn in list(self._turns):
            self._give_up(turn, "asked to be quiet")

    async def has_said(self, alert: Alert) -> bool:
        """Whether the voice itself told the alert, in the turn during which it was decided; waits for that turn's end.

        An urgent alert waits for nothing.
        """
        turn = self._newest.get(alert.feed)
        if turn is None or alert.priority is Priority.URGENT:
            return False
        if alert.decided_at < self._clock.at(turn.began_s - SLOP_S):
            return False
        if turn.is_complete and alert.decided_at > self._clock.at(turn.last_s + SLOP_S):
            return False
        return await asyncio.shield(turn.was_heard)

    async def run(self) -> None:
        """Play what is offered, one turn after the other, until cancelled."""
        while True:
            await self._has_come.wait()
            while self._turns:
                await self._play_out(self._turns[0])
            self._has_come.clear()

    def _begin(self, piece: LivePiece) -> _Turn:
        turn = _Turn(
            piece.feed, piece.turn, piece.rate_hz, piece.at_s, piece.at_s, offered_at_s=self._clock.monotonic()
        )
        self._newest[piece.feed] = turn
        self._turns.append(turn)
        if len(self._turns) > TURNS_MAX:
            self._give_up(turn, "others speak")
        if (why := self._quiet.why(self._clock.now())) is not None:
            self._give_up(turn, why)
        self._has_come.set()
        return turn

    async def _play_out(self, turn: _Turn) -> None:
        try:
            await self._floor.speak(Rank.CHATTER, lambda: self._play(turn))
        except ChannelUnavailable as error:
            self._give_up(turn, str(error))
        else:
            turn.settle(True)
        finally:
            turn.settle(False)  # only if we were cancelled
            if turn in self._turns:
                self._turns.remove(turn)

    async def _play(self, turn: _Turn) -> None:
        if turn.was_heard.done():
            raise ChannelUnavailable("an urgent alert cut it short")
        if self._clock.monotonic() - turn.offered_at_s > STALE_S:
            raise ChannelUnavailable("its turn to speak came too late")
        playing = asyncio.ensure_future(
            self._speaker.stream(self._pieces(turn), turn.rate_hz, f"companion-{turn.feed}-{turn.number}")
        )
        try:
            await until_silent(playing, turn.was_heard)
        except asyncio.CancelledError:
            self._give_up(turn, "it was cut short")  # by an urgent alert, or by a person
            raise
        if turn.was_heard.done():
            raise ChannelUnavailable("it was given up")
        await playing

    async def _pieces(self, turn: _Turn) -> AsyncIterator[bytes]:
        """As they come, to the last. ChannelUnavailable: the next one did not come in time."""
        while True:
            while turn.pieces:
                yield turn.pieces.popleft()
            if turn.is_complete:
                return
            turn.has_come.clear()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await turn.has_come.wait()
            except TimeoutError as error:
                raise ChannelUnavailable(f"nothing more came for {PATIENCE_S:g} s") from error

    def _give_up(self, turn: _Turn, why: str, *, hush: bool = True) -> None:
        """Nobody will hear the rest; said once."""
        if turn.was_heard.done():
            return
        turn.settle(False)
        turn.pieces.clear()
        if turn in self._turns and turn is not self._turns[0]:
            self._turns.remove(turn)
        if hush and not turn.is_complete:
            self._hush(turn.feed)
        self._observer.on("companion.dropped", feed=turn.feed, why=why)
