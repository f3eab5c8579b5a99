"""The weights of MiniCPM-o 4.5 as one module, and the way several feeds use them together.

`MiniCpmO` holds weights and nothing else; every memory belongs to a feed. `run_together` drives any number of works
(see `work`): it gathers what all of them ask for at a moment, answers requests of one kind with one packed forward, and
resumes them. One work alone takes the same way.

A work that fails ends with its error and disturbs no other: when a packed forward fails, its requests are tried one by
one, so that only the bad one fails. Running out of device memory, or a device that failed, ends all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeAlias

import torch
from torch import Tensor, nn

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.config import ModelConfig
from omni_watch.duplex.minicpmo.hearing import AudioProjection, HearingEncoder
from omni_watch.duplex.minicpmo.language import Language
from omni_watch.duplex.minicpmo.room import PICTURES_AT_ONCE
from omni_watch.duplex.minicpmo.speech import SpeechDecoder
from omni_watch.duplex.minicpmo.vision import Resampler, VisionTower, grid_of
from omni_watch.duplex.minicpmo.work import Fed, Feed, Hear, Request, Say, See, T, Work

Answer: TypeAlias = Any  # what `work` says for each kind of request
_BAD_PIECE: Final = (RuntimeError, ValueError, IndexError)  # what torch raises when a tensor does not fit


class MiniCpmO(nn.Module):
    """The whole model. Children have the official names, so its parameters need no mapping.

    For inference, on the model thread. Build it under `torch.device("meta")` and let `checkpoint` fill it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.language.hidden_size
        self.config = config
        self.llm = Language(config.language)
        self.vpm = VisionTower(config.vision)
        self.resampler = Resampler(config.vision, width)
        self.apm = HearingEncoder(config.audio)
        self.audio_projection_layer = AudioProjection(config.audio, width)
        self.tts = SpeechDecoder(config.speech, width) if config.speech is not None else None

    @property
    def device(self) -> torch.device:
        return self.llm.device

    @property
    def dtype(self) -> torch.dtype:
        """Of activations and caches; quantized weights have types of their own."""
        return self.llm.dtype

    @torch.inference_mode()
    def perform(self, requests: Sequence[Request]) -> list[Answer | ModelError]:
        """Answer the requests, in their order, those of one kind together.

        A request that cannot be answered gets its `ModelError` as the answer; its memory is as before, except that of a
        `Say`. When the device's memory does not suffice, all get one that can be retried.
        """
        answers: dict[int, Answer | ModelError] = {}
        try:
            for kind, perform in self._performers():
                places = [place for place, request in enumerate(requests) if isinstance(request, kind)]
                found = _one_by_one_if_need_be(perform, [requests[place] for place in places])
                answers.update(zip(places, found, strict=True))
        except torch.OutOfMemoryError as error:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()  # what is cached but unused may be what the next attempt needs
            return [_out_of_memory(self.device, error) for _ in requests]
        except torch.AcceleratorError as error:
            return [_device_failed(self.device, error) for _ in requests]
        return [answers[place] for place in range(len(requests))]

    def _performers(self) -> list[tuple[type[Request], Callable[[list[Any]], list[Answer]]]]:
        return [(See, self._see), (Hear, self._hear), (Feed, self._feed), (Say, self._say)]

    def _see(self, requests: list[See]) -> list[list[Tensor]]:
        """[num_queries, H] for each picture of each request; so many pictures at once that memory stays bounded."""
        pictures = [picture for request in requests for picture in request.pictures]
        patch_size = self.config.vision.patch_size
        seen: list[Tensor] = []
        for start in range(0, len(pictures), PICTURES_AT_ONCE):
            some = pictures[start : start + PICTURES_AT_ONCE]
            seen += self.resampler(self.vpm(some), [grid_of(picture, patch_size) for picture in some])
        left = iter(seen)
        return [[next(left) for _ in request.pictures] for request in requests]

    def _hear(self, requests: list[Hear]) -> list[Tensor]:
        """[10, H] for each second; the projection takes them all as rows of one matrix."""
        heard = self.apm.step([request.mel for request in requests], [request.memory for request in requests])
        step = self.config.audio.pool_step
        whole = [positions[: len(positions) // step * step] for positions in heard]  # no mean over two streams
        pooled = self.audio_projection_layer.pooled(torch.cat(whole))
        return list(torch.split(pooled, len(pooled) // len(requests)))

    def _feed(self, requests: list[Feed]) -> list[Fed]:
        """One pass over the decoder; the vocabulary's matrix is multiplied for those positions only that are read."""
        embeddings, caches = [request.embeddings for request in requests], [request.cache for request in requests]
        fed = self.llm(embeddings, caches, only_last=True)
        last = [hidden[-1] for hidden in fed]
        read = [hidden for hidden, request in zip(last, requests, strict=True) if request.wants_logits]
        logits = iter(self.llm.logits(torch.stack(read)) if read else ())
        return [
            Fed(hidden=hidden, logits=next(logits) if request.wants_logits else None)
            for hidden, request in zip(last, requests, strict=True)
        ]

    def _say(self, requests: list[Say]) -> list[Answer | ModelError]:
        """One code of each feed at a time."""
        if self.tts is None:
            raise ModelError("the speech decoder is not loaded; load the checkpoint with speech, or use another voice")
        return [*self.tts.say_together(requests)]


def run_together(model: MiniCpmO, works: Sequence[Work[T]]) -> list[T | ModelError]:
    """Drive the works to their ends, serving like requests together.

    A work ends with its result, or with the `ModelError` that stopped it: its own, or that of a request it had, which
    it may catch. So does one whose logits were not finite (it can be retried, in a new session): that is found out at
    the end, for all works at once and after they read their decisions, so that the device is not waited for once more.

    The works run in inference mode. Model thread only.
    """
    with torch.inference_mode():
        runs = [_Run(work) for work in works]
        try:
            while waiting := [run for run in runs if run.request is not None]:
                answers = model.perform([run.request for run in waiting if run.request is not None])
                for run, answer in zip(waiting, answers, strict=True):
                    run.resume(answer)
        finally:
            for run in runs:
                run.work.close()
        _refuse_what_is_not_finite(runs)
        return [run.outcome for run in runs]


class _Run(Generic[T]):
    """One work on its way. `request` is None when it has ended; then `outcome` is set."""

    def __init__(self, work: Work[T]) -> None:
        self.work = work
        self.request: Request | None = None
        self.outcome: T | ModelError = ModelError("the work was not run")
        self.is_finite: Tensor | None = None  # scalar bool, on the device: all logits it was given so far
        self._advance(lambda: next(work))

    def resume(self, answer: Answer | ModelError) -> None:
        """Go on to the next request, or to the end."""
        if isinstance(answer, ModelError):
            self._advance(lambda: self.work.throw(answer))
            return
        if isinstance(answer, Fed) and answer.logits is not None:
            is_finite = answer.logits.sum().isfinite()  # a NaN or an infinity anywhere stays one in the sum
            self.is_finite = is_finite if self.is_finite is None else self.is_finite & is_finite
        self._advance(lambda: self.work.send(answer))

    def _advance(self, step: Callable[[], Request]) -> None:
        self.request = None
        try:
            self.request = step()
        except StopIteration as end:
            self.outcome = end.value
        except ModelError as error:
            self.outcome = error
        except torch.OutOfMemoryError as error:
            self.outcome = _caused(error, f"the device ran out of memory: {error}", can_retry=True)
        except _BAD_PIECE as error:
            self.outcome = _caused(error, f"a step failed: {error}", can_retry=False)


def _refuse_what_is_not_finite(runs: Sequence[_Run[T]]) -> None:
    checked = [(run, run.is_finite) for run in runs if run.is_finite is not None]
    if not checked:
        return
    for (run, _), is_finite in zip(checked, torch.stack([flag for _, flag in checked]).tolist(), strict=True):
        if not is_finite and not isinstance(run.outcome, ModelError):
            run.outcome = ModelError(
                "the language model's logits are not finite; its session is spoilt: begin a new one", can_retry=True
            )


def _one_by_one_if_need_be(perform: Callable[[list[Any]], list[Answer]], requests: list[Any]) -> list[Answer]:
    """All at once; if that fails, each alone, so that a bad request fails alone.

    A packed forward that failed has left all memories as they were. Not for a device that is out of memory or broken.
    """
    if not requests:
        return []
    try:
        return perform(requests)
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except ModelError as error:
        failure = error
    except _BAD_PIECE as error:
        failure = _caused(error, f"a request cannot be answered: {error}", can_retry=False)
    if len(requests) == 1:
        return [failure]
    return [answer for request in requests for answer in _one_by_one_if_need_be(perform, [request])]


def _out_of_memory(device: torch.device, error: Exception) -> ModelError:
    return _caused(error, f"{device} ran out of memory: {error}; watch fewer feeds, or quantize", can_retry=True)


def _device_failed(device: torch.device, error: Exception) -> ModelError:
    return _caused(error, f"{device} failed and cannot be used again by this process: {error}", can_retry=False)


def _caused(error: Exception, message: str, *, can_retry: bool) -> ModelError:
    """A `ModelError` to hand on rather than to raise, with its cause."""
    made = ModelError(message, can_retry=can_retry)
    made.__cause__ = error
    return made
