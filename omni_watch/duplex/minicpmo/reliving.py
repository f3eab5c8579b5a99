"""One recorded session, lived through again: the same sound and pictures, and every number compared on the way.

A `Player` drives a dialogue as the engine would; a `Tape` around it notes what was asked of the weights and what they
answered. What passes inside the weights between two requests is noted by `overhear`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor

from omni_watch.duplex.minicpmo.decoding import Decoder, most_likely
from omni_watch.duplex.minicpmo.dialogue import Dialogue, DialogueConfig, Quirks, Spoken
from omni_watch.duplex.minicpmo.golden import RecordedSession, RecordedUnit
from omni_watch.duplex.minicpmo.mel import MelFrontEnd
from omni_watch.duplex.minicpmo.pictures import pictures_of
from omni_watch.duplex.minicpmo.report import Place, Report
from omni_watch.duplex.minicpmo.senses import Perceived, Senses, voice_vectors
from omni_watch.duplex.minicpmo.speech import MAX_NEW_CODES, Said, SpeechMemory
from omni_watch.duplex.minicpmo.tokens import Tokens
from omni_watch.duplex.minicpmo.vision import grid_of
from omni_watch.duplex.minicpmo.weights import MiniCpmO
from omni_watch.duplex.minicpmo.windows import Basic, Context, Off
from omni_watch.duplex.minicpmo.work import Fed, Feed, Hear, Request, See, Work

T = TypeVar("T")


@dataclass(slots=True)
class Tape:
    """What one unit asked of the weights, and what they answered."""

    pictures: list[Tensor] = field(default_factory=list)  # [3, h, w] each
    features: list[Tensor] = field(default_factory=list)  # [L, Dv] of each picture; only overheard
    seen: list[Tensor] = field(default_factory=list)  # [num_queries, H] of each picture
    mel: list[Tensor] = field(default_factory=list)
    encoded: list[Tensor] = field(default_factory=list)  # [50, Da]; only overheard
    heard: list[Tensor] = field(default_factory=list)  # [10, H]
    decisions: dict[int, Fed] = field(default_factory=dict)  # by the length of the cache that they were made at

    def clear(self) -> None:
        for name in self.__slots__:
            getattr(self, name).clear()

    def note(self, request: Request, answer: Any) -> None:
        match request:
            case See():
                self.pictures += request.pictures
                self.seen += answer
            case Hear():
                self.mel.append(request.mel)
                self.heard.append(answer)
            case Feed(wants_logits=True):
                self.decisions[request.cache.length] = answer

    def around(self, work: Work[T]) -> Work[T]:
        """The same work, with everything that passes noted."""
        answer: Any = None
        while True:
            try:
                request = work.send(answer)
            except StopIteration as ended:
                result: T = ended.value
                return result
            answer = yield request
            self.note(request, answer)

    @contextmanager
    def overhear(self, model: MiniCpmO) -> Iterator[None]:
        """Note what passes inside the weights. Only while one session runs alone: rows do not say whose they are."""
        handles = [
            model.vpm.register_forward_hook(lambda _module, _given, found: self.features.extend(found)),
            model.apm.layer_norm.register_forward_hook(lambda _module, _given, found: self.encoded.append(found)),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class Imposer:
    """Makes the recorded choices in place of the model's, and counts where the model would have chosen otherwise."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._tokens: Iterator[int] = iter(())
        self._codes: Iterator[int] = iter(())

    def expect(self, unit: Mapping[str, Any], end_code: int) -> None:
        """What was chosen in the unit that comes."""
        self._tokens = iter(unit.get("decoded_ids", ()))
        self._codes = chain(unit.get("tts", {}).get("tokens", ()), (end_code,))

    def token(self, chosen: int) -> int:
        return self._imposed(chosen, self._tokens)

    def code(self, probabilities: Tensor) -> Tensor:
        """A `Draw`."""
        chosen = most_likely(probabilities)
        return chosen.new_tensor(self._imposed(int(chosen), self._codes))

    def _imposed(self, chosen: int, recorded: Iterator[int]) -> int:
        imposed = next(recorded, chosen)
        self._report.decision(is_same=imposed == chosen)
        return imposed


class ImposedDecoder(Decoder):
    """A decoder that is told what to say."""

    imposer: Imposer

    def decode(self, logits: Tensor) -> int:
        before = self.history
        imposed = self.imposer.token(super().decode(logits))
        self.reset()
        for token in before:
            self.remember(token)
        if imposed != self._tokens.chunk_eos:
            self.remember(imposed)
        return imposed


class Player:
    """Lives through one session and compares."""

    def __init__(
        self,
        session: RecordedSession,
        model: MiniCpmO,
        tokens: Tokens,
        report: Report,
        *,
        merges_feeds: bool,
        is_imposed: bool,
        on_unit: Callable[[], None],
    ) -> None:
        self.tape = Tape()
        self._session = session
        self._model = model
        self._tokens = tokens
        self._report = report
        self._on_unit = on_unit
        self._imposer = Imposer(report) if is_imposed else None
        self._mel = MelFrontEnd(model.config.audio)
        self._senses = Senses(self._mel, model.apm)
        self._dialogue = self._made_dialogue(merges_feeds)

    def _made_dialogue(self, merges_feeds: bool) -> Dialogue:
        config = DialogueConfig(
            window=self._session.window,
            decoding=self._session.decoding,
            max_tokens=self._session.max_tokens,
            force_listen_count=self._session.force_listen_count,
            merges_feeds=merges_feeds,
            flushes_before_cuts=True,
            quirks=Quirks.reference(),
        )
        decoder = None
        if self._imposer is not None:
            decoder = ImposedDecoder(self._tokens, config.decoding, quirks=config.quirks.decoding)
            decoder.imposer = self._imposer
        return Dialogue(self._tokens, self._model.llm, config, decoder=decoder, speech=self._speech())

    def _speech(self) -> SpeechMemory | None:
        if self._model.tts is None or not self._session.has_speech:
            return None
        draw = most_likely if self._imposer is None else self._imposer.code
        return self._model.tts.start(draw=draw, keeps_scores=True)

    def play(self) -> Work[None]:
        yield from self._prepare()
        for index in range(self._session.unit_count):
            self.tape.clear()
            yield from self._live(index, self._session.unit(index))
            self._on_unit()
        yield from self._dialogue.flush()
        self._compare_cache()

    # --- the prompt ---

    def _prepare(self) -> Work[None]:
        session, dialogue = self._session, self._dialogue
        place = Place(session.name)
        voice = None
        if session.voice is not None:
            voice = voice_vectors(session.voice, self._mel, self._model.apm, self._model.audio_projection_layer)
            self._compare(place, "audio_embeds", "ref_audio_embeds", voice)
            if self.tape.encoded:
                self._compare(place, "apm", "ref_apm", torch.cat(self.tape.encoded))
        yield from dialogue.prepare(session.prefix, session.suffix, voice)
        window = session.window
        marker = window.marker if isinstance(window, Context) else Context().marker
        found = {
            "prefix_ids": self._tokens.encode(session.prefix),
            "suffix_ids": self._tokens.encode(session.suffix),
            "marker_ids": self._tokens.encode(marker),
            "feeds": [list(feed) for feed in dialogue.feeds],
            "kv_len": dialogue.length,
            "preserve_len": dialogue.layout.prompt,
        }
        self._compare_discrete(place, session.expected.get("prepare", {}), found)

    # --- a unit ---

    def _live(self, index: int, unit: RecordedUnit) -> Work[None]:
        expected = self._session.expected["units"][index]
        place = Place(self._session.name, index)
        dialogue = self._dialogue
        frames = [
            pictures_of(frame, self._model.config.vision, max_slices)
            for frame, max_slices in zip(unit.frames, unit.max_slices, strict=True)
        ]
        perceived = yield from self._senses.perceive(unit.sound, frames)
        if perceived.is_nothing:  # the reference feeds nothing and says that it listens
            found = {"success": False, "feeds": [], "is_listen": True, "kv_after_finalize": dialogue.length}
            self._compare_discrete(place, expected, found)
            return
        lengths = {}
        yield from dialogue.hear(perceived)
        lengths["kv_after_prefill"] = dialogue.length
        if self._imposer is not None:
            self._imposer.expect(expected, self._model.tts.end_code if self._model.tts is not None else 0)
        spoken = yield from dialogue.generate(force_listen=unit.force_listen)
        lengths["kv_after_generate"] = dialogue.length
        yield from dialogue.finalize()
        lengths["kv_after_finalize"] = dialogue.length
        found = {"index": index, "success": True, "mode": _mode(perceived), **lengths, **self._discrete(spoken)}
        self._compare_discrete(place, expected, found)
        if spoken.speech is not None or "tts" in expected:
            self._compare_speech(place, expected.get("tts", {}), spoken)
        self._compare_senses(place, expected)
        self._compare_decisions(place)

    def _discrete(self, spoken: Spoken) -> dict[str, Any]:
        """Under the names of the recording."""
        dialogue, layout = self._dialogue, self._dialogue.layout
        patch_size = self._model.config.vision.patch_size
        return {
            "feeds": [list(feed) for feed in dialogue.feeds],
            "emitted_ids": list(spoken.emitted),
            "decoded_ids": list(spoken.decoded),
            "unit_token_ids": list(spoken.token_ids),
            "terminator_id": spoken.terminator,
            "is_listen": spoken.is_listen,
            "end_of_turn": spoken.ends_turn,
            "text": spoken.text,
            "n_tokens": len(spoken.token_ids),
            "n_tts_tokens": len(spoken.codes),
            "current_turn_ended": not dialogue.turn_is_open,
            "audio_kv_len": self._senses.hearing.length,
            "unit_ids": [unit.index for unit in layout.units],
            "unit_lengths": [unit.length for unit in layout.units],
            "preserve_len": layout.prompt,
            "previous_ids": list(layout.carried),
            "previous_text": layout.carried_text,
            "position_offset": layout.cut if isinstance(self._session.window, Basic) else 0,
            "tgt_sizes": [list(grid_of(picture, patch_size)) for picture in self.tape.pictures],
        }

    def _compare_discrete(self, place: Place, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """What is recorded and known; anything else in the recording follows from tensors."""
        for name in expected:
            if name in found:
                self._report.discrete(place, name, expected[name], found[name])

    def _compare_speech(self, place: Place, expected: Mapping[str, Any], spoken: Spoken) -> None:
        said = spoken.speech or _SILENT
        found = {
            "start": said.start,
            "cond_len": len(said.condition),
            "min_new": said.min_new,
            "max_new": MAX_NEW_CODES,
            "tokens": said.codes,
            "kv_len": said.length,
            "next_start": 0 if spoken.ends_turn else said.length,
        }
        self._compare_discrete(place, expected, found)
        self._compare(place, "tts_cond", "tts_cond", said.condition)
        if said.scores is not None:
            self._compare(place, "tts_scores", "tts_scores", said.scores)

    def _compare_senses(self, place: Place, expected: Mapping[str, Any]) -> None:
        tape = self.tape
        for name, noted in (("mel", tape.mel), ("apm", tape.encoded), ("audio_embeds", tape.heard)):
            if noted:
                self._compare(place, name, name, noted[0])
        strips = [patch_strip(picture, self._model.config.vision.patch_size) for picture in tape.pictures]
        for number, recorded in self._arrays(place, "pixels"):
            self._report.tensor(place, "pixels", recorded, strips[number])
        for strip, (mean, std, shape) in zip(strips, expected.get("pixel_stats", ()), strict=False):
            self._report.discrete(place, "pixel_stats.shape", shape, list(strip.shape))
            stats = torch.stack([strip.mean(), strip.std()])
            self._report.tensor(place, "pixels", torch.tensor([mean, std]), stats)
        recorded_vectors = [each for _, recorded in self._arrays(place, "resampler") for each in recorded]
        for recorded, vectors in zip(recorded_vectors, tape.seen, strict=bool(recorded_vectors)):
            self._report.tensor(place, "resampler", recorded, vectors)
        if self._key(place, "vpm") in self._session.arrays:  # padded to the longest of the call
            recorded_features = self._session.arrays[self._key(place, "vpm")]
            for recorded, features in zip(recorded_features, tape.features, strict=False):
                self._report.tensor(place, "vpm", recorded[: len(features)], features)

    def _compare_decisions(self, place: Place) -> None:
        """Row by row: what nobody reads is not asked for where feeds are merged."""
        ends = [feed.position + feed.length for feed in self._dialogue.feeds if feed.wants_logits]
        for name in ("logits", "hidden"):
            key = self._key(place, name)
            if key not in self._session.arrays:
                continue
            recorded = self._session.arrays[key]
            self._report.discrete(place, f"{name}.rows", len(recorded), len(ends))
            for row, end in zip(recorded, ends, strict=False):
                if end in self.tape.decisions:
                    self._report.tensor(place, name, row, getattr(self.tape.decisions[end], name))

    # --- the end ---

    def _compare_cache(self) -> None:
        cache, place = self._dialogue.cache, Place(self._session.name)
        keys = "cache" if isinstance(self._session.window, Off) else "rotated_keys"
        last = cache.num_layers - 1
        self._compare(place, keys, "final_k0", cache.key(0))
        self._compare(place, keys, "final_kL", cache.key(last))
        self._compare(place, "cache", "final_vL", cache.value(last))

    # --- names ---

    def _compare(self, place: Place, quantity: str, name: str, found: Tensor) -> None:
        key = self._key(place, name)
        if key in self._session.arrays:
            self._report.tensor(place, quantity, self._session.arrays[key], found)

    def _arrays(self, place: Place, name: str) -> Sequence[tuple[int, Tensor]]:
        return self._session.arrays.numbered(self._key(place, name))

    def _key(self, place: Place, name: str) -> str:
        return name if place.unit is None else f"u{place.unit:03d}_{name}"


_SILENT = Said(
    codes=[], start=0, condition=torch.empty(0, 0), min_new=0, length=0, has_restarted=False, scores=None
)  # stands for speech that was recorded, but did not come


def _mode(perceived: Perceived) -> str:
    if perceived.sound is None:
        return "VISION"
    return "OMNI" if perceived.frames else "AUDIO"


def patch_strip(picture: Tensor, patch_size: int) -> Tensor:
    """[3, h, w] -> [3, patch, patch * L]: the patches side by side, row after row, as the reference lays them out."""
    rows, columns = grid_of(picture, patch_size)
    patches = picture.view(3, rows, patch_size, columns, patch_size).permute(0, 2, 1, 3, 4)
    return patches.reshape(3, patch_size, -1)
