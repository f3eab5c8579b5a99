"""One conversation with the language model: a prompt, then one unit each second, each ended by listening or speaking.

    prompt   prefix, reference voice, suffix
    unit     <unit> [<image> picture </image> [<slice> tile </slice>]...]... [sound] (what was said) terminator </unit>

A unit is lived through in three steps, all of them works (see `work`): `hear` feeds what was perceived, up to the point
where the model decides; one of `listen`, `speak` (our decision) or `generate` (the published loop, the model's own
decision) ends it; `finalize` closes it and makes room. What is fed waits in a queue until somebody needs an answer, so
that the end of one unit and the whole of the next go through the model in one forward; a listening unit costs exactly
one. `feeds` keeps the account as the published code would have fed them.

What the published loop does by accident is done right here; `Quirks` brings the accidents back, to compare numbers.
Two of its oddities need no flag: a unit is checked before any of it is fed, so none is ever left in the cache half
fed, and a stream of sound begins with its first sound (see `mel`), so a dialogue may begin with pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.decoding import Decoder, DecodingConfig, DecodingQuirks
from omni_watch.duplex.minicpmo.senses import Perceived
from omni_watch.duplex.minicpmo.windows import Layout, Off, Window, give_up
from omni_watch.duplex.minicpmo.work import Fed, Feed, Say, Work

if TYPE_CHECKING:
    from omni_watch.duplex.minicpmo.language import Language
    from omni_watch.duplex.minicpmo.speech import Said, SpeechMemory
    from omni_watch.duplex.minicpmo.tokens import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """What the published loop does by accident. All off in the product, all on to reproduce its numbers.

    Those of decoding are in `decoding.DecodingQuirks`; `Senses.start_over` and `voice_vectors` have one each.
    """

    discards_words_before_listen: bool = False  # <|turn_eos|><|listen|>: what the unit said is neither voiced nor kept
    reopens_ended_turn: bool = False  # words after <|turn_eos|> in the same unit go on, and the turn is open again
    keeps_speech_of_cut_turn: bool = False  # a turn that was cut goes on in the speech decoder with the next one
    carries_text_alone: bool = False  # the context window keeps text beside ids: see `windows.carry_over`
    decoding: DecodingQuirks = field(default_factory=DecodingQuirks)

    @classmethod
    def reference(cls) -> Quirks:
        return cls(
            discards_words_before_listen=True,
            reopens_ended_turn=True,
            keeps_speech_of_cut_turn=True,
            carries_text_alone=True,
            decoding=DecodingQuirks.reference(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueConfig:
    """How one dialogue is led."""

    window: Window = field(default_factory=Off)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    max_tokens: int = 20  # steps of a speaking unit; the last one is always its end
    max_chars: int = 28  # a unit's text stays shorter
    force_listen_count: int = 0  # so many first units only listen; `generate` alone obeys
    merges_feeds: bool = True  # off: every piece in a forward of its own, as published; slower, a rounding apart
    flushes_before_cuts: bool = False  # feed what waits before old units go, as published: it then still sees them
    quirks: Quirks = field(default_factory=Quirks)

    def __post_init__(self) -> None:
        if self.max_tokens < 2 or self.max_chars < 1:
            raise ValueError(
                f"max_tokens {self.max_tokens}, max_chars {self.max_chars}; expected at least 2 tokens and 1 character"
            )


class FeedRecord(NamedTuple):
    """One feed of the published loop."""

    position: int  # where it begins
    length: int
    wants_logits: bool


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """A unit was perceived and the model is about to decide. Nothing waits for the device until it is read."""

    logits: Tensor  # [vocab_size] float32
    hidden: Tensor  # [H]

    def of(self, *token_ids: int) -> list[float]:
        """The logits of some tokens, `listen` and `speak` for instance. Waits for the device, once."""
        chosen: list[float] = self.logits[list(token_ids)].tolist()
        return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """How a unit ended."""

    is_listen: bool
    ends_turn: bool = False
    text: str = ""
    token_ids: tuple[int, ...] = ()  # what the speech decoder is given: without the first one, which is <|speak|>
    terminator: int
    decoded: tuple[int, ...] = ()  # what the decoder chose, in order
    emitted: tuple[int, ...] = ()  # what became of it, with what was forced, the terminator last
    speech: Said | None = field(default=None, compare=False)

    @property
    def codes(self) -> Sequence[int]:
        return () if self.speech is None else self.speech.codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fullness:
    """How much of the model's memory a dialogue uses."""

    length: int  # positions: prompt, units and what is still to be fed
    prompt: int
    units: int  # finished ones that are still remembered


@dataclass(slots=True)
class _Unit:
    """The unit that is being lived through."""

    start: int
    moment: Moment
    spoken: Spoken | None = None


@dataclass(slots=True)
class _Utterance:
    """What a unit has said so far."""

    logits: Tensor  # of what comes next
    decoded: list[int] = field(default_factory=list)
    emitted: list[int] = field(default_factory=list)
    said: list[int] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)  # [H] each, of `said`
    ends_turn: bool = False


class Dialogue:
    """The memory of one conversation and the rules by which it goes on.

    One unit at a time, on the model thread. A work that fails leaves the dialogue unusable: prepare it again, or drop
    it. `speech` is the memory of the speech decoder, this dialogue's own; without it nothing is voiced.
    """

    def __init__(
        self,
        tokens: Tokens,
        language: Language,
        config: DialogueConfig | None = None,
        *,
        decoder: Decoder | None = None,
        speech: SpeechMemory | None = None,
    ) -> None:
        self.config = config or DialogueConfig()
        self.tokens = tokens
        self.decoder = decoder or Decoder(tokens, self.config.decoding, quirks=self.config.quirks.decoding)
        self.cache = language.new_cache()
        self.layout = Layout()
        self.feeds: list[FeedRecord] = []  # since the prompt or the last unit began
        self.speech = speech
        self.turn_is_open = False
        self._language = language
        self._rows: dict[int, Tensor] = {}  # [1, H] of the few marks that every unit has
        self._queue: list[Tensor] = []  # [L, H] each, to be fed with the next answer
        self._unit: _Unit | None = None
        self._owes_turn_end = False
        self._decisions = 0
        self._terminators = frozenset({tokens.listen, tokens.chunk_eos, tokens.chunk_tts_eos})

    @property
    def length(self) -> int:
        """Positions, with those that are still to be fed."""
        return self.cache.length + sum(len(piece) for piece in self._queue)

    @property
    def fullness(self) -> Fullness:
        return Fullness(length=self.length, prompt=self.layout.prompt, units=len(self.layout.units))

    # --- the prompt ---

    def prepare(self, prefix: str, suffix: str, voice: Tensor | None = None) -> Work[None]:
        """Begin anew with a prompt: prefix, voice [n, H] (see `senses.voice_vectors`), suffix.

        Merging, it is fed together with the first unit, or with what `replay` brings.
        """
        self._forget_everything()
        before, after = self.tokens.encode(prefix), self.tokens.encode(suffix)
        if before:
            yield from self._feed(self._language.embed(before))
        if voice is not None and len(voice):
            yield from self._feed(voice)
        marker = getattr(self.config.window, "marker", "")
        self.layout = Layout(prefix=self.length, marker=tuple(self.tokens.encode(marker)), suffix=tuple(after))
        if after:
            yield from self._feed(self._language.embed(after))

    def replay(self, units: Sequence[Perceived]) -> Work[None]:
        """Live through past units again, all of them listened to, in one forward together with what waits.

        Raises:
            ModelError: a unit was neither seen nor heard; nothing was fed then.
        """
        self._expect_no_unit()
        for unit in units:
            self._check(unit)
        self.feeds.clear()
        for unit in units:
            start = self.length
            for piece in self._pieces(unit):
                yield from self._feed(piece)
            yield from self._feed(self._row(self.tokens.listen, self.tokens.unit_end))
            self.layout.add(length=self.length - start)
        yield from self.flush()
        yield from self._make_room()

    # --- one unit ---

    def hear(self, perceived: Perceived) -> Work[Moment]:
        """Feed one second, up to the point where the model decides.

        Raises:
            ModelError: it was neither seen nor heard, or in another width; nothing was fed then.
        """
        self._expect_no_unit()
        self._check(perceived)
        self.feeds.clear()
        start = self.length
        *pieces, last = self._pieces(perceived)
        for piece in pieces:
            yield from self._feed(piece)
        self._unit = _Unit(start, Moment(*(yield from self._ask(last))))
        return self._unit.moment

    def listen(self) -> Work[Spoken]:
        """End the unit by listening; a turn that is open ends with it."""
        unit = self._undecided()
        self.cut()
        utterance = yield from self._begin(unit, needs_logits=False)
        unit.spoken = self._ended(utterance, self.tokens.listen)
        return unit.spoken

    def speak(self, max_tokens: int | None = None, max_chars: int | None = None) -> Work[Spoken]:
        """Say something: begin a turn, or go on with the open one. We decided to; the model chooses the words.

        The limits, as in `DialogueConfig`, are for this unit.
        """
        unit = self._undecided()
        first = None if self.turn_is_open else self.tokens.speak
        utterance = yield from self._begin(unit, needs_logits=first is None)
        unit.spoken = yield from self._utter(
            utterance, max_tokens or self.config.max_tokens, max_chars or self.config.max_chars, first
        )
        return unit.spoken

    def generate(self, *, force_listen: bool = False) -> Work[Spoken]:
        """The published loop: the model decides. With `force_listen` it listens, and an open turn ends."""
        unit = self._undecided()
        must_listen = force_listen or self._decisions < self.config.force_listen_count
        self._decisions += 1
        if force_listen:
            self.cut()
        utterance = yield from self._begin(unit, needs_logits=not must_listen)
        if must_listen:
            unit.spoken = self._ended(utterance, self.tokens.listen)
        else:
            unit.spoken = yield from self._utter(utterance, self.config.max_tokens, self.config.max_chars)
        return unit.spoken

    def cut(self) -> None:
        """End an open turn at once, as when a person interrupts. Its voice stops here; the model reads that the turn
        has ended with the next decision."""
        if not self.turn_is_open:
            return
        self.turn_is_open = False
        self._owes_turn_end = True
        if not self.config.quirks.keeps_speech_of_cut_turn:
            self._end_speech()

    def finalize(self) -> Work[None]:
        """Close the unit that was decided, and give up old ones if the window is full."""
        unit = self._unit
        if unit is None or unit.spoken is None:
            raise RuntimeError("no unit to finalize: hear one, then listen, speak or generate")
        spoken = unit.spoken
        yield from self._feed(self._row(spoken.terminator, self.tokens.unit_end))
        self.layout.add(
            length=self.length - unit.start, said=spoken.token_ids, text=spoken.text, is_listen=spoken.is_listen
        )
        self._unit = None
        yield from self._make_room()

    def flush(self) -> Work[None]:
        """Feed what waits, without asking anything: while there is time, or before the cache is looked at."""
        yield from self._fed_queue(wants_logits=False)

    # --- what is said ---

    def _begin(self, unit: _Unit, *, needs_logits: bool) -> Work[_Utterance]:
        """A unit's words are about to begin: tell the model first that the last turn was cut, if it was."""
        utterance = _Utterance(unit.moment.logits)
        if self._owes_turn_end:
            self._owes_turn_end = False
            end = self._row(self.tokens.turn_eos)
            fed = yield from self._feed(end, wants_logits=True, can_wait=not needs_logits)
            utterance.emitted.append(self.tokens.turn_eos)
            if fed is not None and fed.logits is not None:
                utterance.logits = fed.logits
        return utterance

    def _utter(self, utterance: _Utterance, max_tokens: int, max_chars: int, first: int | None = None) -> Work[Spoken]:
        """Token after token, until the model or a limit ends the unit; then the voice, if there is one.

        `first` is said whatever the model thinks. The first token is fed but never voiced or counted as text: it is
        `<|speak|>`, or its place.
        """
        terminator = self.tokens.chunk_eos  # if a limit ends the unit
        for step in range(max_tokens - 1):
            token = first if step == 0 and first is not None else self._chosen(utterance)
            if token in self._terminators:
                terminator = token
                break
            if utterance.ends_turn and not self.config.quirks.reopens_ended_turn:
                break
            self.turn_is_open = True
            if step > 0 and len(self.tokens.decode([*utterance.said, token])) >= max_chars:
                break
            yield from self._say(utterance, token, is_counted=step > 0)
        spoken = self._ended(utterance, terminator)
        if spoken.is_listen or self.speech is None:
            return spoken
        voiced = yield Say(
            token_ids=spoken.token_ids, hidden=utterance.hidden, ends_turn=spoken.ends_turn, memory=self.speech
        )
        return replace(spoken, speech=voiced)

    def _chosen(self, utterance: _Utterance) -> int:
        """What the decoder says comes next. Waits for the device. An open turn cannot listen: it has to end first."""
        token = self.decoder.decode(utterance.logits)
        utterance.decoded.append(token)
        return self.tokens.tts_bos if token == self.tokens.listen and self.turn_is_open else token

    def _say(self, utterance: _Utterance, token: int, *, is_counted: bool) -> Work[None]:
        utterance.logits, hidden = yield from self._ask(self._row(token))
        utterance.emitted.append(token)
        utterance.ends_turn = token == self.tokens.turn_eos
        self.turn_is_open = not utterance.ends_turn
        if is_counted:
            utterance.said.append(token)
            utterance.hidden.append(hidden)

    def _ended(self, utterance: _Utterance, terminator: int) -> Spoken:
        """A unit that said something and then listens has spoken all the same, unless accidents are wanted."""
        discards = self.config.quirks.discards_words_before_listen
        is_listen = terminator == self.tokens.listen and (discards or not utterance.said)
        if is_listen and utterance.ends_turn and not discards:
            self._end_speech()
        return Spoken(
            is_listen=is_listen,
            ends_turn=utterance.ends_turn and not is_listen,
            text="" if is_listen else self.tokens.decode(utterance.said),
            token_ids=tuple(utterance.said),
            terminator=terminator,
            decoded=tuple(utterance.decoded),
            emitted=(*utterance.emitted, terminator),
        )

    def _end_speech(self) -> None:
        if self.speech is not None:
            self.speech.reset()

    # --- what is fed ---

    def _pieces(self, perceived: Perceived) -> Iterator[Tensor]:
        """One unit up to the decision, [L, H] each; the last one is what the decision is asked of."""
        tokens = self.tokens
        yield self._row(tokens.unit_start)
        for overview, *tiles in perceived.frames:
            yield self._row(tokens.image_start)
            yield overview
            yield self._row(tokens.image_end)
            for tile in tiles:
                yield self._row(tokens.slice_start)
                yield tile
                yield self._row(tokens.slice_end)
        if perceived.sound is not None:
            yield perceived.sound

    def _feed(
        self, embeddings: Tensor, *, wants_logits: bool = False, can_wait: bool | None = None
    ) -> Work[Fed | None]:
        """Queue [L, H], or feed it with all that waits. `can_wait`: nobody reads the answer now, whatever the account
        says."""
        self.feeds.append(FeedRecord(self.length, len(embeddings), wants_logits))
        self._queue.append(embeddings)
        if self.config.merges_feeds and (not wants_logits if can_wait is None else can_wait):
            return None
        return (yield from self._fed_queue(wants_logits=wants_logits))

    def _ask(self, embeddings: Tensor) -> Work[tuple[Tensor, Tensor]]:
        """Feed [L, H] and get logits [vocab_size] and hidden [H] after its last position."""
        fed = yield from self._feed(embeddings, wants_logits=True)
        if fed is None or fed.logits is None:
            raise RuntimeError("a feed that asked for logits was answered without them")
        return fed.logits, fed.hidden

    def _fed_queue(self, *, wants_logits: bool) -> Work[Fed | None]:
        if not self._queue:
            return None
        embeddings = self._queue[0] if len(self._queue) == 1 else torch.cat(self._queue)
        self._queue.clear()
        fed: Fed = yield Feed(embeddings=embeddings, cache=self.cache, wants_logits=wants_logits)
        return fed

    def _make_room(self) -> Work[None]:
        count = self.config.window.excess(self.layout, self.length)
        if not count:
            return
        end = self.layout.prompt + sum(unit.length for unit in islice(self.layout.units, count))
        if self.config.flushes_before_cuts or end > self.cache.length:
            yield from self.flush()
        yield from give_up(
            self.config.window,
            self.layout,
            count,
            cache=self.cache,
            tokens=self.tokens,
            embed=self._language.embed,
            carries_text_alone=self.config.quirks.carries_text_alone,
        )

    def _row(self, *token_ids: int) -> Tensor:
        """[n, H] of n ids. Marks are looked up once: there are about a hundred of them."""
        if not self.tokens.special_ids.issuperset(token_ids):
            return self._language.embed(token_ids)
        for token in token_ids:
            if token not in self._rows:
                self._rows[token] = self._language.embed([token])
        rows = [self._rows[token] for token in token_ids]
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    # --- checks ---

    def _expect_no_unit(self) -> None:
        if self._unit is not None:
            raise RuntimeError("the last unit was not finalized")

    def _undecided(self) -> _Unit:
        if self._unit is None or self._unit.spoken is not None:
            raise RuntimeError("nothing to decide: hear a unit first")
        return self._unit

    def _check(self, perceived: Perceived) -> None:
        if perceived.is_nothing:
            raise ModelError("a unit was neither seen nor heard; expected a picture, sound, or both: skip it")
        width = self._row(self.tokens.unit_start).shape[1]
        vectors = [picture for frame in perceived.frames for picture in frame]
        for vector in (*vectors, *([] if perceived.sound is None else [perceived.sound])):
            if vector.ndim != 2 or vector.shape[1] != width:
                raise ModelError(f"what was perceived has shape {list(vector.shape)}; expected [positions, {width}]")

    def _forget_everything(self) -> None:
        self.decoder.reset()
        self.cache.truncate(0)
        self.layout = Layout()
        self.feeds.clear()
        self.turn_is_open = False
        self._queue.clear()
        self._unit = None
        self._owes_turn_end = False
        self._decisions = 0
        self._end_speech()
