"""A dialogue that says whole sentences, and can take back what it has just said.

The published loop says what fits into a second and goes on in the next one. An alert cannot wait for that: its sentence
is completed within the unit that makes it certain. And as long as it is not certain, the words only show what the wish
to speak is about; they are taken back, and the model never knows that it said them.
"""

from __future__ import annotations

import re
from typing import Final

import torch
from torch import Tensor

from omni_watch.duplex.minicpmo.decoding import Decoder, DecodingConfig
from omni_watch.duplex.minicpmo.dialogue import Dialogue, Spoken
from omni_watch.duplex.minicpmo.tokens import Tokens
from omni_watch.duplex.minicpmo.work import Work

SENTENCE_TOKENS: Final = 48  # of one alert; a spoken sentence has about 20
SENTENCE_CHARS: Final = 160

_SENTENCE_END: Final = re.compile(r"(?:[。！？!?…]|(?<!\d)\.|(?<=\d)\.(?=\s))[\"'”’」』)）]*(?=\s|$|[^\x00-\x7f])")


def finished_sentence(text: str) -> str | None:
    """The first whole sentence of a text; None when it has none yet. A point after a digit may be a decimal one."""
    end = _SENTENCE_END.search(text)
    return None if end is None else text[: end.end()].strip() or None


class SentenceDecoder(Decoder):
    """Says one sentence to its end and then ends the turn: the ends of seconds are no words."""

    def __init__(self, tokens: Tokens, config: DecodingConfig | None = None) -> None:
        super().__init__(tokens, config or DecodingConfig())
        self._vocabulary = tokens
        self._sentence: list[int] = []
        self._pauses = torch.tensor(sorted({tokens.listen, tokens.speak, tokens.chunk_eos, tokens.chunk_tts_eos}))

    def decode(self, logits: Tensor) -> int:
        """The next token; `<|turn_eos|>` once the sentence is finished. `logits` [vocab_size], left as they are."""
        if finished_sentence(self._vocabulary.decode(self._sentence)):
            return self._vocabulary.turn_eos
        if self._pauses.device != logits.device:
            self._pauses = self._pauses.to(logits.device)
        token = super().decode(logits.index_fill(0, self._pauses, -torch.inf))
        self._sentence.append(token)
        return token

    def reset(self) -> None:
        super().reset()
        self._sentence.clear()


class Mind(Dialogue):
    """One session's memory. On the model thread."""

    def say(self) -> Work[Spoken]:
        """Say a sentence, in a turn of its own, instead of listening. It may be taken back before `finalize`."""
        self._before = (self.cache.length, self._owes_turn_end)
        self.decoder.reset()  # an alert that is told again has every right to the words it had before
        return (yield from self.speak(SENTENCE_TOKENS, SENTENCE_CHARS))

    def unsay(self) -> None:
        """Take back what `say` said: the unit is undecided again."""
        unit = self._unit
        if unit is None or unit.spoken is None:
            raise RuntimeError("nothing was said in this unit")
        unit.spoken = None
        self._queue.clear()
        length, self._owes_turn_end = self._before
        self.cache.truncate(length)
        self.turn_is_open = False
        self.decoder.reset()
