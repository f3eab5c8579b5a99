"""Which engine watches a house that names a checkpoint, why, and what of its settings reaches the model."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from omni_watch.alerts.wav import Sound
from omni_watch.app.engines import Choice, build_engine, choose_engine, lacks, open_cabinet, open_engine, step_limit_s
from omni_watch.cli import run_command
from omni_watch.config.settings import Settings, read_settings
from omni_watch.domain.errors import ConfigError, ModelError
from omni_watch.duplex.minicpmo import building, room
from omni_watch.duplex.minicpmo.engine import MiniCpmEngine
from omni_watch.duplex.minicpmo.prompts import Presence
from omni_watch.duplex.minicpmo.stillness import StillnessGate
from omni_watch.duplex.minicpmo.windows import Basic, Context, Off, Window
from omni_watch.watch.briefing import BriefedTask, Briefing
from omni_watch.watch.ports import Aloud
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_feed import unit
from tests.fakes.values import a_task
from tests.fixtures_minicpmo import TINY

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB_ID = "openbmb/MiniCPM-o-4_5"
FEEDS = '[[feeds]]\nname = "kitchen"\nvideo = "rtsp://127.0.0.1:9/none"\naudio = "stream"\n'

MakeSettings = Callable[..., Settings]


@pytest.fixture
def settings(tmp_path: Path) -> MakeSettings:
    """The settings of a house, from its file: `model` is a [model] table, `more` follows it."""

    def made(kind: str = "auto", /, *, more: str = "", **model: Any) -> Settings:
        values = "".join(f"{key} = {json.dumps(value)}\n" for key, value in {"device": "cpu", **model}.items())
        folders = f'[house]\nzone = "UTC"\nstate_dir = "{tmp_path}/state"\n[models]\nfolder = "{tmp_path}/none"\n'
        path = tmp_path / "config.toml"
        path.write_text(f'{folders}{FEEDS}[engine]\nkind = "{kind}"\nthreads = 1\n[model]\n{values}{more}', "utf-8")
        return read_settings(path, environment={"HOME": str(tmp_path)})

    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tiny checkpoint's own files, to be damaged."""
    copied = tmp_path / "MiniCPM-o"
    copied.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        shutil.copy(TINY / name, copied / name)
    return copied


# what can be wrong with a checkpoint


def is_gone(folder: Path) -> None:
    shutil.rmtree(folder)


def is_something_else(folder: Path) -> None:
    for path in folder.iterdir():
        path.rename(path.with_suffix(".old"))


def is_half_downloaded(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    files = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    here = "model-00001-of-00002.safetensors"
    save_file({name: tensors[name] for name in names if files[name] == here}, folder / here)
    (folder / "model.safetensors").unlink()


def is_another_model(folder: Path) -> None:
    change(folder / "config.json", model_type="qwen3")


def disagrees_with_its_weights(folder: Path) -> None:
    change(folder / "config.json", intermediate_size=300)


def has_another_vocabulary(folder: Path) -> None:
    (tokenizer := folder / "tokenizer.json").write_text(tokenizer.read_text().replace("<|speak|>", "<|talk|>"))
    (config := folder / "tokenizer_config.json").write_text(config.read_text().replace("<|speak|>", "<|talk|>"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (is_gone, "is no folder; expected"),
    (is_something_else, "config.json is missing; is "),
    (is_half_downloaded, "1 of 2 weight files are missing: model-00002-of-00002.safetensors; the download did not"),
    (is_another_model, "model_type is 'qwen3'; expected 'minicpmo'"),
    (disagrees_with_its_weights, "config.json and the weights belong to different checkpoints: download both again"),
    (has_another_vocabulary, "<|speak|>"),
]


class TestWhatIsNamed:
    def test_a_checkpoint_that_fits_watches_and_says_where_it_goes(self, settings: MakeSettings) -> None:
        for kind in ("auto", "minicpm-o"):
            choice = choose_engine(settings(kind, path=str(TINY)))
            assert choice == Choice("minicpm-o", "tiny-a on the processor, float32")

    def test_without_a_checkpoint_the_embedded_engine_watches_and_nothing_is_amiss(
        self, settings: MakeSettings
    ) -> None:
        assert choose_engine(settings()) == Choice("embedded", "model.path names no checkpoint")

    def test_the_embedded_engine_may_be_asked_for_whatever_is_named(self, settings: MakeSettings) -> None:
        assert choose_engine(settings("embedded", path="/nowhere")).why == 'engine.kind is "embedded"'

    @pytest.mark.parametrize(("damage", "said"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
    def test_a_checkpoint_that_cannot_be_used_is_second_best_or_an_error_with_the_same_reason(
        self, settings: MakeSettings, folder: Path, damage: Callable[[Path], None], said: str
    ) -> None:
        damage(folder)

        choice = choose_engine(settings("auto", path=str(folder)))

        assert (choice.kind, choice.is_second_best) == ("embedded", True)
        assert choice.why.startswith("MiniCPM-o cannot be used: ")
        assert said in choice.why
        with pytest.raises(ModelError) as refused:
            choose_engine(settings("minicpm-o", path=str(folder)))
        assert str(refused.value) == choice.why.removeprefix("MiniCPM-o cannot be used: ")

    def test_too_little_memory_is_told_in_numbers_and_counts_the_feeds(
        self, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("omni_watch.duplex.minicpmo.checkpoint.free_memory", lambda device: 100_000_000)

        choice = choose_engine(settings(path=str(TINY)))

        assert choice.is_second_best
        assert "for 2 feeds on cpu, where 0.1 GB are free" in choice.why, "the one and a memory that stands by"

    def test_a_processor_too_slow_for_so_many_weights_is_used_only_when_asked_for(
        self, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(building, "LARGEST_ON_CPU", 1_000_000)

        choice = choose_engine(settings(path=str(TINY)))

        assert choice.is_second_best
        assert "too many for a processor" in choice.why
        assert choose_engine(settings("minicpm-o", path=str(TINY))).kind == "minicpm-o"

    def test_a_graphics_card_that_is_not_there_is_told(
        self, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

        choice = choose_engine(settings(path=str(TINY), device="cuda:1"))

        assert choice.is_second_best
        assert f"model.device: 'cuda:1' is not there; torch {torch.__version__} finds no graphics card" in choice.why

    def test_the_reasons_of_every_device_are_told(
        self, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
        for module in (building, room):
            monkeypatch.setattr(module, "free_memory", lambda device: 1_000 * (device.index or 0))
        monkeypatch.setattr("omni_watch.duplex.minicpmo.checkpoint.free_memory", lambda device: 0)

        why = choose_engine(settings(path=str(TINY), device="auto")).why

        assert [why.index(f"on {device}, where") for device in ("cuda:1", "cuda:0", "cpu")] == sorted(
            why.index(f"on {device}, where") for device in ("cuda:1", "cuda:0", "cpu")
        )

    def test_what_only_the_embedded_engine_needs_is_not_missed(self, settings: MakeSettings) -> None:
        house = settings(path=str(TINY))

        lacking = {lack.ability for lack in lacks(open_cabinet(house), choose_engine(house))}

        assert not lacking & {"hear household sounds", "see what it was shown", "read displays"}
        assert lacking < {lack.ability for lack in lacks(open_cabinet(house))}


class Hub:
    """Stands for the hub's client: a cache, a network, and what was asked of them."""

    def __init__(self, *, cached: Path | None = None, online: Path | None = None) -> None:
        self.cached, self.online = cached, online
        self.asked: list[str] = []

    def snapshot_download(self, _repo_id: str, **options: Any) -> str:
        is_local = options.get("local_files_only", False)
        self.asked.append("cache" if is_local else "network")
        found = self.cached if is_local else self.online
        if found is None:
            raise FileNotFoundError("nothing of it is here")
        return str(found)

    def metadata(self, url: str) -> None:
        self.asked.append(url)
        if self.online is None:
            raise ConnectionError("connection refused\nand much more that nobody wants to read")


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Hub], Hub]:
    def used(hub: Hub) -> Hub:
        monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
        monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", hub.metadata)
        return hub

    return used


class TestHub:
    @pytest.mark.parametrize("revision", [{}, {"revision": "main"}, {"revision": COMMIT[:12]}])
    def test_an_id_without_a_whole_commit_is_told_before_anything_is_fetched(
        self, settings: MakeSettings, use: Callable[[Hub], Hub], revision: dict[str, str]
    ) -> None:
        hub = use(Hub(online=TINY))

        choice = choose_engine(settings(path=HUB_ID, **revision))

        assert choice.is_second_best
        assert "expected the 40 hexadecimal digits of a commit" in choice.why
        with pytest.raises(ModelError, match="40 hexadecimal digits"):
            choose_engine(settings("minicpm-o", path=HUB_ID, **revision))
        assert hub.asked == []

    def test_choosing_never_asks_the_network(self, settings: MakeSettings, use: Callable[[Hub], Hub]) -> None:
        hub = use(Hub(online=TINY))

        choice = choose_engine(settings(path=HUB_ID, revision=COMMIT))

        assert choice.kind == "minicpm-o"
        assert choice.why == f"{HUB_ID} at 0123456789ab is not here yet; it is fetched at the first start"
        assert hub.asked == ["cache"]

    def test_a_snapshot_that_is_here_is_looked_over_like_any_folder(
        self, settings: MakeSettings, use: Callable[[Hub], Hub], folder: Path
    ) -> None:
        use(Hub(cached=folder))
        house = settings(path=HUB_ID, revision=COMMIT)
        assert choose_engine(house).why == "MiniCPM-o on the processor, float32"

        is_another_model(folder)

        assert choose_engine(house).is_second_best

    def test_a_hub_that_is_away_is_one_line_and_the_embedded_engine_watches(
        self, settings: MakeSettings, use: Callable[[Hub], Hub]
    ) -> None:
        hub = use(Hub())
        told = Told()

        choice, engine = open_engine(settings(path=HUB_ID, revision=COMMIT), clock=FakeClock(), tell=told)

        assert engine.name == "embedded"
        assert choice.is_second_best
        assert f"{HUB_ID} at {COMMIT} cannot be fetched: connection refused; see that the hub can be" in choice.why
        assert [fields["engine"] for fields in told.named("engine.chosen")] == ["minicpm-o", "embedded"]
        assert told.named("model.lacking") == [{"ability": "use MiniCPM-o", "mend": choice.why}]
        assert "network" not in hub.asked, "one question shows that it is away; the client itself would try six times"

    def test_a_hub_that_is_away_is_an_error_for_who_asks_for_the_model(
        self, settings: MakeSettings, use: Callable[[Hub], Hub]
    ) -> None:
        use(Hub())

        with pytest.raises(ModelError, match="cannot be fetched: connection refused") as failed:
            open_engine(settings("minicpm-o", path=HUB_ID, revision=COMMIT), clock=FakeClock(), tell=Told())
        assert failed.value.can_retry

    def test_what_was_fetched_is_looked_over_before_it_is_loaded(
        self, settings: MakeSettings, use: Callable[[Hub], Hub], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use(Hub(online=TINY))
        monkeypatch.setattr(building, "LARGEST_ON_CPU", 1_000_000)
        told = Told()

        choice, engine = open_engine(settings(path=HUB_ID, revision=COMMIT), clock=FakeClock(), tell=told)

        assert engine.name == "embedded"
        assert "too many for a processor" in choice.why
        assert told.named("loading")[0]["what"] == f"{HUB_ID}, which is being fetched"

    def test_while_it_is_fetched_the_service_manager_hears_that_it_goes_on(
        self, settings: MakeSettings, use: Callable[[Hub], Hub], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use(Hub(online=TINY))
        goes_on = threading.Event()
        monkeypatch.setattr(building, "FETCHING_EVERY_S", 0.01)
        monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda url: goes_on.wait(10))
        heard: list[str] = []

        def tell(_event: str, **fields: Any) -> None:
            heard.append(fields.get("what", ""))
            if heard.count(f"{HUB_ID}, which is still being fetched") == 2:
                goes_on.set()

        open_engine(settings(path=HUB_ID, revision=COMMIT), clock=FakeClock(), tell=tell)

        assert goes_on.is_set()
        assert heard[-1] == "the model, 100 % of 0.0 GB"


class Told:
    """Remembers what a daemon would be told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def named(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]


def built(house: Settings, told: Told | None = None) -> MiniCpmEngine:
    engine = build_engine(house, choose_engine(house), clock=FakeClock(), tell=told or Told())
    assert isinstance(engine, MiniCpmEngine)
    return engine


class TestLoading:
    def test_it_is_told_what_is_loaded_and_how_far_it_is_in_tenths(self, settings: MakeSettings) -> None:
        told = Told()

        built(settings(path=str(TINY)), told)

        what, *steps = [fields["what"] for fields in told.named("loading")]
        assert what == "the model, tiny-a on the processor, float32"
        percents = [int(step.removeprefix("the model, ").split(" %")[0]) for step in steps]
        assert percents == sorted(set(percents))
        assert percents[-1] == 100
        assert all(percent % 10 == 0 for percent in percents)

    def test_weights_that_cannot_be_loaded_after_all_are_replaced_by_the_embedded_engine_or_an_error(
        self, settings: MakeSettings, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tensors = load_file(folder / "model.safetensors")
        name = "llm.model.layers.0.mlp.up_proj.weight"
        save_file({**tensors, name: tensors[name].to(torch.int8)}, folder / "model.safetensors")
        assert choose_engine(settings(path=str(folder))).kind == "minicpm-o", "headers look well"

        choice, engine = open_engine(settings(path=str(folder)), clock=FakeClock(), tell=Told())

        assert engine.name == "embedded"
        assert f"{name} is of type I8" in choice.why
        with pytest.raises(ModelError, match="is of type I8"):
            open_engine(settings("minicpm-o", path=str(folder)), clock=FakeClock(), tell=Told())

    def test_an_engine_from_a_file_of_settings_decides_a_second(self, settings: MakeSettings) -> None:
        engine = built(settings(path=str(TINY)))
        session = engine.open(Briefing(feed="kitchen", tasks=(BriefedTask(task=a_task()),)))

        decision = session.step(unit(0))

        assert [reading.task_id for reading in decision.readings] == ["kettle01"]
        assert decision.readings[0].margin is not None


class TestSettings:
    @pytest.mark.parametrize(
        ("table", "window"),
        [
            ({}, Off()),
            ({"window": "basic", "window_low": 700, "window_high": 900}, Basic(high=900, low=700)),
            ({"window": "context", "window_units": 7}, Context(max_units=7)),
        ],
    )
    def test_the_window_is_the_one_asked_for(
        self, settings: MakeSettings, table: dict[str, Any], window: Window
    ) -> None:
        engine = built(settings(path=str(TINY), **table))

        for presence in Presence:
            assert engine._brain.mind(presence).config.window == window

    def test_how_it_decides_remembers_and_looks_is_as_the_file_says(self, settings: MakeSettings) -> None:
        table = {
            "bias": -1.5,
            "confirm_of": 3,
            "confirm_in": 5,
            "second_opinion": True,
            "context_tokens": 2000,
            "carried_s": 9,
            "forced_picture_s": 7,
            "step_limit_s": 12.5,
        }
        house = settings(path=str(TINY), **table)

        engine = built(house)

        decides = engine._settings.control
        assert (decides.bias, decides.confirm_of, decides.confirm_in, decides.second_opinion) == (-1.5, 3, 5, True)
        assert (engine._settings.context_tokens, engine._settings.carried_units) == (2000, 9)
        assert str(engine._settings.zone) == "UTC"
        eyelid = engine._around.eyelid()
        assert isinstance(eyelid, StillnessGate)
        assert eyelid._longest_s == 7
        assert step_limit_s(house, choose_engine(house)) == 12.5
        assert torch.get_num_threads() == 1

    def test_nothing_need_be_overlooked(self, settings: MakeSettings) -> None:
        assert built(settings(path=str(TINY), forced_picture_s=0))._around.eyelid() is None

    def test_more_context_than_the_model_has_is_cut(self, settings: MakeSettings, folder: Path) -> None:
        change(folder / "config.json", max_position_embeddings=4096)

        assert built(settings(path=str(folder), context_tokens=8192))._settings.context_tokens == 4096

    def test_each_feed_is_watched_in_its_own_way_with_the_senses_it_has(self, settings: MakeSettings) -> None:
        hall = '[[feeds]]\nname = "hall"\naudio = "mic"\nmode = "companion"\n'

        engine = built(settings(path=str(TINY), more=hall))

        places = engine._feeds
        assert (places["kitchen"].presence, places["hall"].presence) == (Presence.WATCH, Presence.COMPANION)
        assert places["kitchen"].senses == replace(places["hall"].senses, has_camera=True)
        assert engine.open(Briefing(feed="hall"))._settings.presence is Presence.COMPANION

    @pytest.mark.parametrize(("dtype", "expected"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
    def test_it_computes_in_what_was_asked_for(self, settings: MakeSettings, dtype: str, expected: torch.dtype) -> None:
        house = settings(path=str(TINY), dtype=dtype)

        assert built(house)._brain._model.dtype is expected  # type: ignore[attr-defined]
        assert choose_engine(house).why.endswith(str(expected).removeprefix("torch."))

    def test_the_speech_decoder_is_not_loaded_where_the_daemon_speaks(self, settings: MakeSettings) -> None:
        assert built(settings(path=str(TINY)))._brain._model.tts is None  # type: ignore[attr-defined]

    def test_smaller_weights_are_named_in_the_reason_and_refused_where_they_cannot_be(
        self, settings: MakeSettings
    ) -> None:
        assert choose_engine(settings(path=str(TINY), quantization="int8")).why.endswith("float32, int8 weights")
        house = settings(path=str(TINY), quantization="int4")
        with pytest.raises(ModelError, match="int4 weights need an NVIDIA card"):
            built(house)

    def test_dates_that_the_model_is_told_are_the_clocks(self, settings: MakeSettings) -> None:
        house, clock = settings(path=str(TINY)), FakeClock()

        engine = build_engine(house, choose_engine(house), clock=clock)

        assert isinstance(engine, MiniCpmEngine)
        assert engine._around.wall(5.0) - engine._around.wall(0.0) == timedelta(seconds=5)
        assert engine._around.wall(0.0) == clock.at(0.0)


COMPANION = '[[feeds]]\nname = "hall"\naudio = "mic"\nmode = "companion"\n'


class FakeCodec:
    """Implements `Codec`; nobody speaks."""

    lookahead = 3

    def __init__(self) -> None:
        self.is_closed = False

    def begin(self, turn: int) -> None: ...
    def stream(self, turn: int, codes: Sequence[int], *, is_last: bool) -> bytes:
        return b""

    def forget(self, turn: int) -> None: ...
    def close(self) -> None:
        self.is_closed = True


class TestOwnVoice:
    @pytest.fixture
    def sample(self, tmp_path: Path) -> Path:
        path = tmp_path / "anna.wav"
        tone = (8000 * np.sin(np.arange(32_000) / 12)).astype("<i2")
        path.write_bytes(Sound(tone.tobytes(), 16_000).to_wav())
        return path

    def open(self, house: Settings, told: Told, aloud: Aloud | None = lambda _piece: None) -> MiniCpmEngine:
        engine = build_engine(house, choose_engine(house), clock=FakeClock(), tell=told, aloud=aloud)
        assert isinstance(engine, MiniCpmEngine)
        return engine

    def is_ready(self, engine: MiniCpmEngine) -> bool:
        return engine._brain.voice is not None and engine._brain._model.tts is not None  # type: ignore[attr-defined]

    def test_companions_get_it_where_all_is_there(
        self, settings: MakeSettings, sample: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        codec = FakeCodec()
        monkeypatch.setattr(building, "open_token2wav", lambda assets, reference: codec)
        house = settings(path=str(TINY), voice="model", voice_sample=str(sample), more=COMPANION)
        told = Told()

        engine = self.open(house, told)

        assert self.is_ready(engine)
        assert told.named("model.lacking") == []
        assert not self.is_ready(self.open(house, told, aloud=None)), "nobody would hear it"
        no_companion = settings(path=str(TINY), voice="model", voice_sample=str(sample))
        assert not self.is_ready(self.open(no_companion, told)), "nobody would speak with it"
        engine.close()
        assert codec.is_closed

    @pytest.mark.parametrize(
        ("more", "why"),
        [
            ({}, "found no speech_tokenizer_v2_25hz.onnx"),
            ({"voice_python": sys.executable}, "found no speech_tokenizer_v2_25hz.onnx"),
            ({"voice_sample": "/nowhere.wav"}, "reference voice /nowhere.wav is no file"),
        ],
    )
    def test_what_it_lacks_is_told_and_the_daemons_voices_speak(
        self, settings: MakeSettings, sample: Path, more: dict[str, str], why: str
    ) -> None:
        house = settings(path=str(TINY), **{"voice": "model", "voice_sample": str(sample), **more}, more=COMPANION)
        told = Told()

        engine = self.open(house, told)

        assert not self.is_ready(engine)
        (lack,) = told.named("model.lacking")
        assert lack["ability"] == "speak with MiniCPM-o's own voice"
        assert why in lack["mend"]

    def test_its_codec_ends_where_the_weights_cannot_be_loaded(
        self, settings: MakeSettings, sample: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        codec = FakeCodec()
        monkeypatch.setattr(building, "open_token2wav", lambda assets, reference: codec)
        table = {"voice": "model", "voice_sample": str(sample), "quantization": "int4"}  # not on a processor

        with pytest.raises(ModelError, match="int4"):
            self.open(settings(path=str(TINY), **table, more=COMPANION), Told())
        assert codec.is_closed

    def test_it_needs_a_recording(self, settings: MakeSettings) -> None:
        with pytest.raises(ConfigError, match=r'model\.voice: "model" needs model\.voice_sample'):
            settings(path=str(TINY), voice="model")


class TestRequestsAloud:
    def test_the_tasks_are_pronounced_only_where_that_is_wished(self, settings: MakeSettings) -> None:
        said: list[str] = []

        def pronounce(sentence: str, _language: str) -> NDArray[np.float32]:
            said.append(sentence)
            return np.zeros(16_000, np.float32)

        briefing = Briefing(feed="kitchen", tasks=(BriefedTask(task=a_task()),))
        for is_wished in (False, True):
            house = settings(path=str(TINY), speak_requests=is_wished)
            engine = build_engine(house, choose_engine(house), clock=FakeClock(), pronounce=pronounce)
            session = engine.open(briefing)
            assert session.step(unit(0)).readings
            assert said == ([a_task().text] if is_wished else [])


class TestCommands:
    """The same, as a person meets it: exit codes, one line each, no traceback."""

    def config(self, tmp_path: Path, text: str) -> str:
        clip = tmp_path / "clip.mp4"
        clip.touch()
        path = tmp_path / "config.toml"
        folders = f'[house]\nstate_dir = "{tmp_path}/state"\n[models]\nfolder = "{tmp_path}/none"\n'
        path.write_text(f'{folders}[[feeds]]\nname = "kitchen"\nvideo = "{clip}"\n{text}', "utf-8")
        return str(path)

    def test_an_engine_without_a_checkpoint_is_a_wrong_configuration(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = self.config(tmp_path, '[engine]\nkind = "minicpm-o"\n')

        for command in (["config", "check"], ["run"], ["doctor"]):
            assert run_command([*command, "--config", config]) == 78
            assert 'engine.kind: "minicpm-o" needs model.path' in capsys.readouterr().err

    def test_a_checkpoint_that_cannot_be_used_ends_a_run_that_asks_for_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = self.config(tmp_path, f'[engine]\nkind = "minicpm-o"\n[model]\npath = "{tmp_path}/nowhere"\n')

        assert run_command(["run", "--config", config, "--json"]) == 1

        captured = capsys.readouterr()
        error = json.loads(captured.out)["error"]
        assert error["kind"] == "ModelError"
        assert f"{tmp_path}/nowhere" in error["message"]
        assert "is no folder" in error["message"]
        assert "Traceback" not in captured.err

    @pytest.mark.parametrize(
        ("text", "named", "line"),
        [
            ("", {"kind": "auto", "checkpoint": None}, "engine: embedded"),
            ('[engine]\nkind = "embedded"\n', {"kind": "embedded", "checkpoint": None}, "engine: embedded"),
            (
                '[model]\npath = "/models/o"\n',
                {"kind": "auto", "checkpoint": "/models/o"},
                "engine: minicpm-o with /models/o, else embedded; `omni-watch doctor` says which",
            ),
            (
                '[engine]\nkind = "minicpm-o"\n[model]\npath = "/models/o"\n',
                {"kind": "minicpm-o", "checkpoint": "/models/o"},
                "engine: minicpm-o with /models/o",
            ),
        ],
    )
    def test_a_checked_configuration_names_the_engine_that_is_asked_for(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, named: dict[str, Any], line: str
    ) -> None:
        config = self.config(tmp_path, text)

        assert run_command(["config", "check", "--config", config]) == 0
        assert line in capsys.readouterr().out.splitlines()
        assert run_command(["config", "check", "--config", config, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["engine"] == named

    @pytest.mark.parametrize(
        ("path", "ok", "said"),
        [
            (str(TINY), True, "minicpm-o: tiny-a on the processor, float32"),
            ("/nowhere", False, "embedded: MiniCPM-o cannot be used: '/nowhere' is no folder"),
        ],
    )
    def test_the_doctor_says_which_engine_would_watch_and_why(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, ok: bool, said: str
    ) -> None:
        config = self.config(tmp_path, f'[model]\npath = "{path}"\ndevice = "cpu"\n[voice]\noutput = "off"\n')

        run_command(["doctor", "--config", config, "--json"])

        findings = json.loads(capsys.readouterr().out)["findings"]
        (found,) = [each for each in findings if each["area"] == "engine"]
        assert found["ok"] is ok
        assert found["what"].startswith(said)
        assert bool(found["do"]) is not ok
        missed = [each["what"] for each in findings if each["area"] == "models"]
        assert any("cannot hear household sounds" in what for what in missed) is not ok, "MiniCPM-o hears by itself"
