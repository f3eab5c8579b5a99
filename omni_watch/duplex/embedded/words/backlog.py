"""What waits to be recognised. Bounded: when speech comes faster than it is understood, the oldest is let go and told.

An utterance is offered at a pause, before anybody knows whether it is all; it is recognised on trial when nothing else
waits. When it was all, the result is ready or under way; when the voice went on, the trial is forgotten. Not safe
for threads; whoever uses it holds a lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from omni_watch.domain.hearing import Heard, Hearing, Transcript, Unheard, UnheardCause
from omni_watch.duplex.embedded.words.listening import Utterance

MOST_WAITING: Final = 3  # utterances that are all; one more is in work


@dataclass(slots=True, eq=False)
class Job:
    """One utterance to recognise."""

    id: int
    feed: str
    utterance: Utterance
    is_final: bool  # the utterance is all; otherwise a trial
    is_wanted: bool = True
    transcripts: Sequence[Transcript] | None = None  # None: not recognised yet


class Backlog:
    """The utterances of all feeds that wait, are in work, or are done on trial."""

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._most_waiting = most_waiting
        self._waiting: deque[Job] = deque()
        self._trials: dict[str, Job] = {}  # the trial of each feed: waiting, in work or done
        self._made = 0
        self.running: Job | None = None

    def __len__(self) -> int:
        """How many utterances that are all wait."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or is in work, on trial or for good."""
        return (
            not self._waiting
            and self.running is None
            and all(trial.transcripts is not None for trial in self._trials.values())
        )

    def offer(self, feed: str, utterance: Utterance) -> None:
        """This may be all; recognise it on trial when there is time."""
        self.withdraw(feed)
        self._trials[feed] = self._job(feed, utterance, is_final=False)

    def withdraw(self, feed: str) -> None:
        """What was offered was not all."""
        if (trial := self._trials.pop(feed, None)) is not None:
            trial.is_wanted = False

    def settle(self, feed: str, utterance: Utterance) -> list[Hearing]:
        """This is all: what there is to tell at once. That is its words when they are ready, and what was let go."""
        trial = self._trials.pop(feed, None)
        if trial is None or trial.utterance.number != utterance.number:
            if trial is not None:
                trial.is_wanted = False
            trial = self._job(feed, utterance, is_final=True)
        trial.is_final, trial.utterance = True, utterance
        if trial.transcripts is not None:
            return [_outcome(trial, trial.transcripts)]
        if trial is self.running:
            return []
        self._waiting.append(trial)
        behind = [self._waiting.popleft() for _ in range(len(self._waiting) - self._most_waiting)]
        return [_unheard(job, UnheardCause.BEHIND) for job in behind]

    def take(self) -> Job | None:
        """What to recognise next: the oldest that is all, else a trial; None when there is nothing."""
        if self._waiting:
            self.running = self._waiting.popleft()
        else:
            self.running = next((trial for trial in self._trials.values() if trial.transcripts is None), None)
        return self.running

    def done(self, transcripts: Sequence[Transcript]) -> list[Hearing]:
        """The running one was recognised: what there is to tell."""
        job, self.running = self.running, None
        if job is None or not job.is_wanted:
            return []
        job.transcripts = transcripts
        return [_outcome(job, transcripts)] if job.is_final else []

    def _job(self, feed: str, utterance: Utterance, *, is_final: bool) -> Job:
        self._made += 1
        return Job(self._made, feed, utterance, is_final)


def _outcome(job: Job, transcripts: Sequence[Transcript]) -> Hearing:
    if not transcripts:
        return _unheard(job, UnheardCause.NO_WORDS)
    first, *others = transcripts
    utterance = job.utterance
    return Heard(
        feed=job.feed,
        start_s=utterance.start_s,
        end_s=utterance.end_s,
        text=first.text,
        language=first.language,
        confidence=first.confidence,
        alternatives=tuple(others),
        is_cut=utterance.is_cut,
    )


def _unheard(job: Job, cause: UnheardCause) -> Unheard:
    return Unheard(feed=job.feed, start_s=job.utterance.start_s, end_s=job.utterance.end_s, cause=cause)
