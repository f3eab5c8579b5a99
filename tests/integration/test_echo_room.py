"""A loudspeaker and a microphone in one room, and a person in it: who hears whom, who stops for whom."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from omni_watch.alerts.floor import AGAIN_S
from omni_watch.cabinet import Cabinet
from omni_watch.domain.errors import Interrupted
from omni_watch.domain.hearing import Heard, SpeechBegan
from omni_watch.watch.barge_in import Heed
from tests.fakes.listening_room import ListeningRoom, as_wav, at_level, listening_room, stopped_after_s
from tests.fakes.rooms import level_db
from tests.fakes.spoken import errors, piper
from tests.fixtures_pulse import Room

# by `make soak`: whether a canceller has learnt a room in time is no matter of right or wrong on a machine that is busy
pytestmark = [pytest.mark.models, pytest.mark.soak]

OURS = (
    "The kettle is full. Please come to the kitchen and take it off the stove, before the water boils over. "
    "The washing machine has finished too, and somebody left the front door open."
)
THEIRS = "Stop watching the kettle please, I am there already."
STOP_LIMIT_S = 5.0  # generous: how fast it is, is measured by bench_barge_in


async def test_our_own_voice_is_neither_heard_nor_does_it_stop_us_and_units_flow(room: Room, cabinet: Cabinet) -> None:
    voice = as_wav(at_level(piper(OURS, cabinet.path("voice-en"))))
    async with listening_room(cabinet) as hall:
        units = len(hall.units)
        for _ in range(2):
            hall.forget()
            assert await said_again(hall, voice)
            await hall.rest(2.5)
            assert not [event for _, event, heed in hall.heard if isinstance(event, Heard) and heed is not Heed.OURS]
            assert not any(heed is Heed.STOP for _, _, heed in hall.heard)
            raw, cleaned = (np.concatenate([block.samples for block in each]) for each in (hall.raw, hall.blocks))
            print(f"\nERLE {level_db(raw) - level_db(cleaned):.0f} dB, voices {len(hall.events(SpeechBegan))}")
            assert level_db(raw) > -30, "we were not heard at all"
            assert level_db(raw) - level_db(cleaned) > 10
        assert len(hall.units) - units >= 15, "it watches while it speaks"
        assert sum(unit.is_heard for unit in hall.units[units:]) >= 10, "a busy machine loses some sound"


async def test_a_person_who_talks_over_us_stops_us_is_understood_and_what_we_said_can_be_said_again(
    room: Room, cabinet: Cabinet
) -> None:
    ours = at_level(piper(OURS, cabinet.path("voice-en")))
    voice = as_wav(ours)
    person = at_level(piper(THEIRS, cabinet.path("voice-en")))
    async with listening_room(cabinet) as hall:
        await hall.say(voice, OURS)
        await hall.rest(2.5)
        hall.forget()
        saying = asyncio.create_task(hall.say(voice, OURS))
        await hall.until(hall.is_audible)
        await hall.rest(2.0)
        talking = asyncio.create_task(asyncio.to_thread(room.play_samples, person))
        with pytest.raises(Interrupted):
            await saying
        await talking
        await hall.until(lambda: [heed for _, _, heed in hall.events(Heard) if heed is not Heed.OURS], 30)
        theirs = [event for _, event, heed in hall.events(Heard) if heed is not Heed.OURS]
        texts = [event.text for event in theirs if isinstance(event, Heard)]
        assert min(errors(text, THEIRS) for text in texts) <= 2, texts
        took_s = stopped_after_s(hall, person, ours)
        print(f"\nsilent {took_s:.3f} s after the person's first sound")
        assert took_s < STOP_LIMIT_S
        assert await said_again(hall, voice)


async def test_a_person_who_talks_over_our_first_sentence_after_a_start_stops_us_by_words(
    room: Room, cabinet: Cabinet
) -> None:
    """Before it is learnt how we sound here."""
    person = at_level(piper("I heard you, thanks.", cabinet.path("voice-en")))
    async with listening_room(cabinet) as hall:
        saying = asyncio.create_task(hall.say(as_wav(at_level(piper(OURS, cabinet.path("voice-en")))), OURS))
        await hall.until(hall.is_audible)
        await hall.rest(0.7)
        await asyncio.to_thread(room.play_samples, person)
        with pytest.raises(Interrupted):
            await saying


async def test_a_microphone_that_hears_us_is_not_stopped_by_us(room: Room, cabinet: Cabinet) -> None:
    """As a camera's, whose sound cannot be cleaned: our words are heard, and known to be ours."""
    voice = as_wav(at_level(piper(OURS, cabinet.path("voice-en"))))
    async with listening_room(cabinet, is_cleaned=False) as hall:
        assert await said_again(hall, voice)
        await hall.until(lambda: hall.events(Heard), 30)
        await hall.rest(2.5)
        assert {heed for _, _, heed in hall.events(Heard)} == {Heed.OURS}
        assert hall.events(SpeechBegan)


async def said_again(hall: ListeningRoom, voice: bytes) -> bool:
    """Whether it can be said when it is offered again, as the relay does, some seconds later."""
    await hall.rest(AGAIN_S)
    try:
        await hall.say(voice, OURS)
    except Interrupted:
        return False
    return True
