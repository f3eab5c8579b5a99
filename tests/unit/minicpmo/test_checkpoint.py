"""What is in a checkpoint folder, what is wrong with it, and how it gets into memory."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from huggingface_hub import errors
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo import room
from omni_watch.duplex.minicpmo.checkpoint import UNUSED, find, open_checkpoint, resolve, skeleton
from omni_watch.duplex.minicpmo.config import read_config
from omni_watch.duplex.minicpmo.making import bench_config, official_config, write_checkpoint
from omni_watch.duplex.minicpmo.room import memory_needed
from tests.fixtures_minicpmo import GOLDEN, TINY

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tiny checkpoint's own files, to be damaged."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS):
        shutil.copy(TINY / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def sharded(folder: Path) -> Path:
    """The same in three files with an index."""
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    places = {}
    for i in range(3):
        file = f"model-0000{i + 1}-of-00003.safetensors"
        save_file({name: tensors[name] for name in names[i::3]}, folder / file)
        places.update(dict.fromkeys(names[i::3], file))
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / WEIGHTS).unlink()
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def rewrite(folder: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


# names and sizes


def official() -> dict[str, tuple[list[int], str]]:
    keys: dict[str, tuple[list[int], str]] = json.loads(
        gzip.decompress((GOLDEN / "official_keys.json.gz").read_bytes())
    )
    return keys


def test_the_model_has_the_published_names_and_shapes() -> None:
    model = skeleton(read_config(json.loads((GOLDEN / "official_config.json").read_text())))
    ours = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    published = {name: shape for name, (shape, _) in official().items()}
    assert len(published) == 1414
    assert ours == {name: shape for name, shape in published.items() if not name.startswith(UNUSED)}
    assert not set(dict(model.named_buffers())), "no table is stored, and none is left without memory after loading"


def test_the_official_sizes_are_those_that_the_names_were_recorded_with() -> None:
    recorded = read_config(json.loads((GOLDEN / "official_config.json").read_text()))
    assert read_config(official_config()) == recorded


def test_loaded_weights_are_the_stored_ones_bit_for_bit() -> None:
    model = open_checkpoint(TINY).load(dtype=torch.float32, is_tuned=False)
    stored = load_file(TINY / WEIGHTS)
    loaded = dict(model.named_parameters())
    assert set(loaded) == {name for name in stored if not name.startswith(UNUSED)}
    for name, parameter in loaded.items():
        assert torch.equal(parameter, stored[name]), name
        assert not parameter.requires_grad
    assert not model.training


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("stored_as", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_weights_are_converted_on_the_way(folder: Path, dtype: torch.dtype, stored_as: torch.dtype) -> None:
    def convert(tensors: dict[str, Tensor]) -> None:
        tensors.update({name: tensor.to(stored_as) for name, tensor in tensors.items()})

    rewrite(folder, convert)
    model = open_checkpoint(folder).load(dtype=dtype, is_tuned=False)
    expected = load_file(folder / WEIGHTS)["llm.model.layers.1.mlp.down_proj.weight"].to(dtype)
    assert torch.equal(model.get_parameter("llm.model.layers.1.mlp.down_proj.weight"), expected)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model.dtype is dtype


def test_shards_and_a_single_file_are_the_same_checkpoint(sharded: Path) -> None:
    model, single = (open_checkpoint(path).load(dtype=torch.float32, is_tuned=False) for path in (sharded, TINY))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model.parameters(), single.parameters(), strict=True))


def test_the_unused_weights_may_be_there(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    def complete(tensors: dict[str, Tensor]) -> None:
        tensors["tts.model.embed_tokens.weight"] = torch.zeros(320, 32)

    rewrite(folder, complete)
    open_checkpoint(folder).load(dtype=torch.float32)
    assert not caplog.records


def test_unused_weights_and_a_whole_speech_decoder_may_be_absent(folder: Path) -> None:
    rewrite(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith(UNUSED)])
    assert open_checkpoint(folder).config.speech is not None
    rewrite(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("tts.")])
    opened = open_checkpoint(folder)
    assert opened.config.speech is None
    assert opened.load(dtype=torch.float32).tts is None


def test_speech_need_not_be_loaded() -> None:
    opened = open_checkpoint(TINY)
    assert opened.load(dtype=torch.float32, with_speech=False).tts is None
    assert opened.load(dtype=torch.float32).tts is not None


def test_unknown_weights_are_ignored_with_one_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    rewrite(folder, lambda tensors: tensors.update({f"future.{i}.weight": torch.ones(1) for i in range(12)}))
    open_checkpoint(folder)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "checkpoint.unknown_weights")
    fields: dict[str, Any] = record.__dict__["fields"]
    assert fields["count"] == 12
    assert fields["names"].endswith("and 2 more")


def test_weight_normalisation_may_have_its_older_names(folder: Path) -> None:
    old = "tts.head_code.0.weight"
    new = "tts.head_code.0.parametrizations.weight.original"

    def rename(tensors: dict[str, Tensor]) -> None:
        tensors[f"{old}_g"], tensors[f"{old}_v"] = tensors.pop(f"{new}0"), tensors.pop(f"{new}1")

    rewrite(folder, rename)
    model = open_checkpoint(folder).load(dtype=torch.float32, is_tuned=False)
    stored = load_file(TINY / WEIGHTS)
    assert torch.equal(model.get_parameter(f"{new}0"), stored[f"{new}0"])
    assert torch.equal(model.get_parameter(f"{new}1"), stored[f"{new}1"])


def test_weight_normalisation_may_be_multiplied_out(folder: Path) -> None:
    new = "tts.head_code.0.parametrizations.weight.original"

    def fold(tensors: dict[str, Tensor]) -> None:
        lengths, directions = tensors.pop(f"{new}0"), tensors.pop(f"{new}1")
        tensors["tts.head_code.0.weight"] = lengths * directions / directions.norm(dim=1, keepdim=True)

    rewrite(folder, fold)
    model = open_checkpoint(folder).load(dtype=torch.float32)
    original = open_checkpoint(TINY).load(dtype=torch.float32)
    assert model.tts is not None
    assert original.tts is not None
    states = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.tts.head_code[0](states), original.tts.head_code[0](states))


def test_a_head_that_is_tied_to_the_embeddings_is_stored_once(folder: Path) -> None:
    def tie(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["llm.lm_head.weight"]

    rewrite(folder, tie)
    with pytest.raises(ModelError, match=r"llm\.lm_head\.weight"):
        open_checkpoint(folder)
    change(folder / "config.json", tie_word_embeddings=True)
    model = open_checkpoint(folder).load(dtype=torch.float32)
    rows = torch.randn(3, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(model.llm.logits(rows), rows @ model.llm.model.embed_tokens.weight.T)


# the configuration


@pytest.mark.parametrize(
    ("section", "key", "found"),
    [
        (None, "hidden_act", "gelu"),
        (None, "attention_bias", True),
        (None, "rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        ("vision_config", "hidden_act", "gelu"),
        ("audio_config", "activation_function", "relu"),
        ("tts_config", "hidden_act", "gelu"),
    ],
)
def test_arithmetic_that_is_not_ours_is_refused_rather_than_ignored(
    folder: Path, section: str | None, key: str, found: Any
) -> None:
    raw = json.loads((folder / "config.json").read_text())
    changed = {key: found} if section is None else {section: {**raw[section], key: found}}
    change(folder / "config.json", **changed)
    with pytest.raises(ModelError, match=re.escape(f"{section + '.' if section else ''}{key} is {found!r}; expected")):
        open_checkpoint(folder)


def test_what_the_published_code_sets_by_itself_is_not_taken_from_the_file(folder: Path) -> None:
    raw = json.loads((folder / "config.json").read_text())
    changes = {"rope_theta": 7.0, "rms_norm_eps": 0.1, "repetition_penalty": 9.0}
    change(folder / "config.json", tts_config={**raw["tts_config"], **changes})
    assert open_checkpoint(folder).config == open_checkpoint(TINY).config


def test_numbers_of_layers_are_those_of_the_weights(folder: Path) -> None:
    raw = json.loads((folder / "config.json").read_text())
    vision = {**raw["vision_config"], "num_hidden_layers": 2}
    audio = {**raw["audio_config"], "encoder_layers": 9}
    speech = {**raw["tts_config"], "num_hidden_layers": 5}
    change(folder / "config.json", num_hidden_layers=1, vision_config=vision, audio_config=audio, tts_config=speech)
    assert open_checkpoint(folder).config == open_checkpoint(TINY).config


def test_sizes_that_the_weights_do_not_have_are_all_named_ten_at_most(folder: Path) -> None:
    change(folder / "config.json", vocab_size=700)
    with pytest.raises(ModelError) as refused:
        open_checkpoint(folder)
    message = str(refused.value)
    assert "2 of " in message
    assert "llm.model.embed_tokens.weight is [506, 256] instead of [700, 256]" in message
    assert "llm.lm_head.weight is [506, 256] instead of [700, 256]" in message
    change(folder / "config.json", vocab_size=506, hidden_size=128, num_attention_heads=4, head_dim=32)
    with pytest.raises(ModelError, match=r" instead of ") as refused:
        open_checkpoint(folder)
    assert str(refused.value).count("instead of") == 10
    assert " more; config.json and the weights belong to different checkpoints" in str(refused.value)


def test_heads_that_do_not_divide_are_refused(folder: Path) -> None:
    raw = json.loads((folder / "config.json").read_text())
    change(folder / "config.json", vision_config={**raw["vision_config"], "num_attention_heads": 5})
    with pytest.raises(
        ModelError, match=r"vision_config.hidden_size is 48, which num_attention_heads = 5 does not divide"
    ):
        open_checkpoint(folder)


def test_missing_weights_are_named_ten_at_most(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.pop("llm.model.layers.0.self_attn.q_norm.weight"))
    with pytest.raises(ModelError, match=r"1 of \d+ weights are missing: llm.model.layers.0.self_attn.q_norm.weight;"):
        open_checkpoint(folder)
    rewrite(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("apm.")])
    with pytest.raises(ModelError, match=r"apm\.conv1\.weight.* and \d+ more; .*download the checkpoint again"):
        open_checkpoint(folder)


def test_a_layer_missing_in_the_middle_is_named(folder: Path) -> None:
    rewrite(
        folder,
        lambda tensors: ([tensors.pop(name) for name in list(tensors) if name.startswith("vpm.encoder.layers.1.")]),
    )
    with pytest.raises(ModelError, match=r"vpm\.encoder\.layers\.1\.layer_norm1\.weight"):
        open_checkpoint(folder)


@pytest.mark.parametrize("model_type", ["qwen3", "minicpmv", None])
def test_another_model_is_refused(folder: Path, model_type: str | None) -> None:
    change(folder / "config.json", model_type=model_type)
    with pytest.raises(ModelError, match=rf"model_type is {model_type!r}; expected 'minicpmo'"):
        open_checkpoint(folder)


def test_weights_that_were_quantized_elsewhere_are_refused(folder: Path) -> None:
    change(folder / "config.json", quantization_config={"quant_method": "awq", "bits": 4})
    with pytest.raises(ModelError, match=r"already quantized \(awq\); use the published 16-bit checkpoint"):
        open_checkpoint(folder)


def test_weights_of_a_type_without_fractions_are_refused(folder: Path) -> None:
    name = "llm.model.layers.0.mlp.up_proj.weight"
    rewrite(folder, lambda tensors: tensors.update({name: tensors[name].to(torch.int8)}))
    with pytest.raises(ModelError, match=rf"{name} is of type I8; expected one of"):
        open_checkpoint(folder).load()


def test_a_tokenizer_of_other_weights_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = write_checkpoint(tmp_path_factory.mktemp("other"), small_config(vocab_size=2000))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(other / name, folder / name)
    with pytest.raises(ModelError, match=r"2000 tokens, but llm.model.embed_tokens.weight has 506 rows"):
        open_checkpoint(folder)


# damaged downloads


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere is no folder"):
        open_checkpoint(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"config\.json is missing; is .* the folder of a checkpoint\?"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "version https://git-lfs.github.com/spec/v1"])
def test_a_damaged_configuration_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json .*download it again"):
        open_checkpoint(folder)


def test_a_folder_without_weights_says_what_it_found_instead(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no model\.safetensors .*found pytorch_model\.bin, which is another format"):
        open_checkpoint(folder)


def test_shards_without_their_index_are_refused(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    with pytest.raises(ModelError, match=rf"3 \.safetensors files but no {INDEX}"):
        open_checkpoint(sharded)


def test_a_shard_that_has_not_arrived_is_named_with_what_the_download_left(sharded: Path) -> None:
    (sharded / "model-00002-of-00003.safetensors").rename(sharded / "model-00002-of-00003.safetensors.part")
    hidden = sharded / ".cache" / "huggingface" / "download" / "x.incomplete"
    hidden.parent.mkdir(parents=True)
    hidden.touch()
    with pytest.raises(ModelError) as refused:
        open_checkpoint(sharded)
    message = str(refused.value)
    assert "1 of 3 weight files are missing: model-00002-of-00003.safetensors" in message
    assert "run it again (unfinished: .cache/huggingface/download/x.incomplete, model-00002" in message


def test_what_an_old_download_left_beside_whole_files_does_no_harm(sharded: Path) -> None:
    (sharded / "model-00002-of-00003.safetensors.part").touch()
    assert open_checkpoint(sharded).config == open_checkpoint(TINY).config


@pytest.mark.parametrize("lost", [1, 1_000_000])
def test_a_truncated_file_says_how_much_is_missing(sharded: Path, lost: int) -> None:
    path = sharded / "model-00003-of-00003.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    with pytest.raises(
        ModelError, match=rf"model-00003-of-00003\.safetensors has {len(whole) - lost:,} bytes; expected {len(whole):,}"
    ):
        open_checkpoint(sharded)


@pytest.mark.parametrize("kept", [0, 5, 8, 100])
def test_a_file_cut_within_its_header_is_no_safetensors_file(folder: Path, kept: int) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:kept])
    with pytest.raises(ModelError, match=rf"{WEIGHTS} \({kept} bytes\) is no safetensors file.*download it again"):
        open_checkpoint(folder)


def test_a_pointer_of_git_lfs_is_recognised(sharded: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 4987202208\n"
    (sharded / "model-00001-of-00003.safetensors").write_text(pointer)
    with pytest.raises(ModelError, match=r"model-00001-of-00003\.safetensors .*run `git lfs pull`"):
        open_checkpoint(sharded)
    (sharded / INDEX).write_text(pointer)
    with pytest.raises(ModelError, match=rf"{INDEX} is no index of weights.*run `git lfs pull`"):
        open_checkpoint(sharded)


def test_a_web_page_instead_of_a_file_is_recognised(folder: Path) -> None:
    (folder / WEIGHTS).write_text("<!DOCTYPE html><html>Access denied</html>")
    with pytest.raises(ModelError, match="but a web page"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": 7},
        [],
    ],
)
def test_a_header_that_makes_no_sense_is_refused(folder: Path, header: Any) -> None:
    described = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(described).to_bytes(8, "little") + described + b"12345678")
    with pytest.raises(ModelError, match="is no safetensors file"):
        open_checkpoint(folder)


def test_an_index_of_another_checkpoint_is_refused(sharded: Path) -> None:
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"]["llm.lm_head.weight"] = "model-00001-of-00003.safetensors"
    index["weight_map"]["llm.model.norm.weight"] = "model-00001-of-00003.safetensors"
    index["weight_map"]["llm.model.embed_tokens.weight"] = "model-00001-of-00003.safetensors"
    (sharded / INDEX).write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"places \d weights in files that do not have them"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("place", ["../secret.safetensors", "/etc/passwd", 7])
def test_an_index_never_leads_out_of_the_folder(sharded: Path, place: Any) -> None:
    (sharded / INDEX).write_text(json.dumps({"weight_map": {"llm.lm_head.weight": place}}))
    with pytest.raises(ModelError, match="the name of a file beside it"):
        open_checkpoint(sharded)


def test_a_file_that_shrinks_while_it_is_read_is_noticed(folder: Path) -> None:
    opened = open_checkpoint(folder)
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:1_000_000])
    with pytest.raises(ModelError, match=r"ends within .*; it was changed while it was read"):
        opened.load()


# memory


def small_config(**values: Any) -> dict[str, Any]:
    """The bench sizes with fewer layers."""
    config = bench_config()
    config["num_hidden_layers"] = 1
    for part in ("vision_config", "tts_config"):
        config[part] = {**config[part], "num_hidden_layers": 1}
    config["audio_config"] = {**config["audio_config"], "encoder_layers": 1}
    return {**config, **values}


PEAK = """
import sys, torch
from pathlib import Path
from torch import nn
from omni_watch.duplex.minicpmo.checkpoint import open_checkpoint
from omni_watch.duplex.minicpmo.quantization import quantize_

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))

dtype, kind = getattr(torch, sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None
opened = open_checkpoint(Path(sys.argv[1]))
if kind:
    quantize_(nn.Linear(64, 64), kind)  # libraries are loaded before the measurement
before = peak()
model = opened.load(dtype=dtype, quantization=kind)
need = opened.memory_needed(device=torch.device("cpu"), dtype=dtype, quantization=kind)
print(peak() - before, need.weights)
"""


@pytest.mark.parametrize("loaded", [["float32"], ["bfloat16"], ["bfloat16", "int8"]])
def test_loading_never_holds_a_second_copy(tmp_path: Path, loaded: list[str]) -> None:
    """What is held in between is one block of a file and one layer, here 64 and 28 MB.

    Blocks of memory above 1 MB are given back at once, as those of a real checkpoint are (glibc keeps freed ones of up
    to 32 MB for later, in holes whose number is chance): what is measured is what we hold.
    """
    folder = write_checkpoint(tmp_path, {**small_config(), "num_hidden_layers": 12}, shard_bytes=300 << 20)
    run = [sys.executable, "-c", PEAK, str(folder), *loaded]
    gives_back = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    ended = subprocess.run(run, env=gives_back, capture_output=True, text=True, check=True)
    grown, weights = map(int, ended.stdout.split())
    assert weights > 150e6
    assert grown < weights + (120 << 20), f"{grown / 1e6:.0f} MB for weights of {weights / 1e6:.0f} MB"


def test_a_quantized_checkpoint_is_near_the_full_one() -> None:
    opened = open_checkpoint(TINY)
    full, small = (opened.load(dtype=torch.float32, quantization=kind) for kind in (None, "int8"))
    rows = torch.randn(9, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact, found = (model.llm([rows], [model.llm.new_cache()])[0] for model in (full, small))
    assert not torch.equal(exact, found)
    assert (exact - found).square().mean().sqrt() < 0.05 * exact.square().mean().sqrt()


def test_progress_counts_every_byte(sharded: Path) -> None:
    told: list[tuple[int, int]] = []
    open_checkpoint(sharded).load(progress=lambda done, of: told.append((done, of)))
    sizes = [path.stat().st_size for path in sharded.glob("*.safetensors")]
    done = [each for each, _ in told]
    assert done == sorted(done)
    assert {of for _, of in told} == {done[-1]}
    assert sum(sizes) - 100_000 < done[-1] < sum(sizes), "all but the headers"


def test_a_large_tensor_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omni_watch.duplex.minicpmo.shards._BLOCK_BYTES", 1000)
    told: list[int] = []
    model = open_checkpoint(TINY).load(dtype=torch.bfloat16, is_tuned=False, progress=lambda done, _: told.append(done))
    assert max(after - before for before, after in zip([0, *told], told, strict=False)) <= 1000
    with safe_open(TINY / WEIGHTS, "pt") as stored:
        expected = stored.get_tensor("llm.lm_head.weight").bfloat16()
    assert torch.equal(model.get_parameter("llm.lm_head.weight"), expected)


OFFICIAL_GB = {None: (18.5, 21.5), "int8": (11.5, 14.5), "int4": (8.5, 11.9)}


@pytest.mark.parametrize("quantization", [None, "int8", "int4"])
def test_the_published_sizes_need_what_was_published(quantization: Any) -> None:
    """18-20 GB in 16 bits, 11-13 in 8, 8-9 in 4 with a smaller cache: llama.cpp-omni's notes."""
    config = read_config(official_config())
    need = memory_needed(
        skeleton(config),
        config,
        device=torch.device("cuda"),
        dtype=torch.bfloat16,
        quantization=quantization,
        feeds=1,
    )
    low, high = OFFICIAL_GB[quantization]
    assert low < need.total / 1e9 < high


def test_each_feed_and_each_position_costs_its_cache() -> None:
    opened = open_checkpoint(TINY)

    def needed(feeds: int, positions: int) -> int:
        return opened.memory_needed(
            device=torch.device("cpu"), dtype=torch.float32, feeds=feeds, positions=positions
        ).caches

    a_position = 2 * 2 * 2 * 32 * 4  # keys and values, layers, heads, numbers, bytes
    assert needed(1, 1008) - needed(1, 1000) == 9 * a_position, "an eighth is kept free"
    assert needed(4, 1000) == 4 * needed(1, 1000)


def test_what_does_not_fit_is_refused_with_numbers_and_advice() -> None:
    config = read_config(official_config())
    opened = replace(open_checkpoint(TINY), config=config)
    refuse = partial(opened.refuse_if_too_large, device=torch.device("cuda", 0), dtype=torch.bfloat16)
    with pytest.raises(ModelError) as refused:
        refuse(free=int(12e9))
    assert "the model needs 21." in str(refused.value)
    assert "on cuda:0, where 12.0 GB are free" in str(refused.value)
    assert 'set quantization = "int4" (11.' in str(refused.value)
    with pytest.raises(ModelError, match=r"no quantization makes it fit.*or watch fewer feeds"):
        refuse(free=int(12e9), feeds=8)
    refuse(quantization="int4", free=int(12e9))
    refuse(free=int(24e9))


def test_a_processor_is_never_advised_what_it_cannot_do() -> None:
    opened = replace(open_checkpoint(TINY), config=read_config(official_config()))
    with pytest.raises(ModelError, match=r"no quantization makes it fit"):
        opened.refuse_if_too_large(device=torch.device("cpu"), dtype=torch.bfloat16, free=int(12e9))
    with pytest.raises(ModelError, match=r'set quantization = "int8" \(13\.\d GB\)$'):
        opened.refuse_if_too_large(device=torch.device("cpu"), dtype=torch.bfloat16, free=int(16e9))


def test_a_quantization_that_cannot_be_had_is_refused_before_anything_is_read() -> None:
    told: list[int] = []
    with pytest.raises(ModelError, match="int4 weights need an NVIDIA card"):
        open_checkpoint(TINY).load(quantization="int4", progress=lambda done, _: told.append(done))
    assert not told


def test_the_free_memory_of_this_machine_is_known_or_left_open(tmp_path: Path) -> None:
    proc, group = tmp_path / "proc", tmp_path / "sys" / "fs" / "cgroup"
    assert room._free_main_memory(tmp_path) is None
    proc.mkdir()
    group.mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 900 kB\nMemFree: 100 kB\nMemAvailable: 500 kB\n")
    assert room._free_main_memory(tmp_path) == 500 * 1024
    (group / "memory.max").write_text("300000\n")
    (group / "memory.current").write_text("100000\n")
    assert room._free_main_memory(tmp_path) == 200_000
    (group / "memory.max").write_text("max\n")
    assert room._free_main_memory(tmp_path) == 500 * 1024
    open_checkpoint(TINY).refuse_if_too_large(device=torch.device("cpu"), dtype=torch.float32)


# where it is


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert resolve(tmp_path) == tmp_path
    assert resolve(str(tmp_path), revision="main") == tmp_path


@pytest.mark.parametrize("wrong", ["nowhere", "/no/such/folder", "a/b/c", "", "https://huggingface.co/openbmb/x"])
def test_what_is_neither_a_folder_nor_an_id_is_refused(wrong: str) -> None:
    with pytest.raises(ModelError, match="is no folder; expected a downloaded checkpoint or an id"):
        resolve(wrong, COMMIT)


@pytest.mark.parametrize("revision", [None, "main", "v4.5", COMMIT[:39], COMMIT.upper()])
def test_an_id_needs_a_commit_that_cannot_move(revision: str | None) -> None:
    with pytest.raises(ModelError, match="expected the 40 hexadecimal digits of a commit"):
        resolve("openbmb/MiniCPM-o-4_5", revision)


class Hub:
    """Stands for the hub's client: a cache that may be whole, part or empty, and a network that may be away."""

    def __init__(self, cached: Path | None, online: Path | None, trouble: Exception | None = None) -> None:
        self.cached, self.online = cached, online
        self.trouble = trouble or ConnectionError("connection refused")
        self.asked: list[dict[str, Any]] = []

    def snapshot_download(self, repo_id: str, **options: Any) -> str:
        self.asked.append({"repo_id": repo_id, **options})
        found = self.cached if options.get("local_files_only") else self.online
        if found is None:
            raise OSError("connection refused")
        return str(found)

    def metadata(self, url: str) -> None:
        if self.online is None:
            raise self.trouble


def use(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", hub.metadata)


def test_a_whole_snapshot_is_used_without_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(cached=TINY, online=None)
    use(monkeypatch, hub)
    assert resolve("openbmb/MiniCPM-o-4_5", COMMIT) == TINY
    assert [asked["local_files_only"] for asked in hub.asked] == [True]


def test_half_a_snapshot_is_completed(monkeypatch: pytest.MonkeyPatch, sharded: Path) -> None:
    (sharded / "model-00001-of-00003.safetensors").unlink()
    hub = Hub(cached=sharded, online=TINY)
    use(monkeypatch, hub)
    assert resolve("openbmb/MiniCPM-o-4_5", COMMIT) == TINY
    fetched = hub.asked[-1]
    assert (fetched["repo_id"], fetched["revision"]) == ("openbmb/MiniCPM-o-4_5", COMMIT)
    assert not any(pattern.endswith(("*", ".py", ".bin", ".pt")) for pattern in fetched["allow_patterns"])


@pytest.mark.parametrize(
    "trouble",
    [
        OSError("connection refused"),
        errors.LocalEntryNotFoundError("connection refused\nand more"),
        errors.HFValidationError("connection refused"),
        RuntimeError("connection refused"),  # as hf_xet, written in Rust, raises it
        httpx2.ProxyError("connection refused"),
        httpx2.ReadTimeout("connection refused"),
        httpx2.RemoteProtocolError("connection refused"),
    ],
    ids=lambda trouble: type(trouble).__name__,
)
def test_a_hub_that_is_away_is_worth_another_try(monkeypatch: pytest.MonkeyPatch, trouble: Exception) -> None:
    hub = Hub(cached=None, online=None, trouble=trouble)
    use(monkeypatch, hub)
    with pytest.raises(ModelError, match=r"cannot be fetched: connection refused; .*give the folder") as failed:
        resolve("openbmb/MiniCPM-o-4_5", COMMIT)
    assert failed.value.can_retry
    assert failed.value.__cause__ is trouble
    assert len(hub.asked) == 1, "the cache; the network only once it is known to be there"


def test_looking_for_a_snapshot_never_asks_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(cached=None, online=TINY)
    use(monkeypatch, hub)
    assert find("openbmb/MiniCPM-o-4_5", COMMIT) is None
    assert [asked["local_files_only"] for asked in hub.asked] == [True]


# made-up checkpoints


def test_a_made_checkpoint_is_a_whole_one_and_the_same_each_time(tmp_path: Path) -> None:
    config = small_config(vocab_size=700)
    config["tts_config"] = {**config["tts_config"], "num_text_tokens": 700}
    first = write_checkpoint(tmp_path / "a", config, seed=7)
    again = write_checkpoint(tmp_path / "b", config, seed=7, shard_bytes=5_000_000)
    other = write_checkpoint(tmp_path / "c", config, seed=8)
    assert len(list(again.glob("*.safetensors"))) > 3
    models = [open_checkpoint(path).load(dtype=torch.float32, is_tuned=False) for path in (first, again, other)]
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))
    assert not torch.equal(models[0].llm.lm_head.weight, models[2].llm.lm_head.weight)
    tokens = open_checkpoint(first).tokens
    assert tokens.size == 700
    assert tokens.decode(tokens.encode("<|im_start|>Is the kettle boiling? 水开了吗<|im_end|>")) == (
        "Is the kettle boiling? 水开了吗"
    )


def test_the_bench_sizes_are_those_of_the_reference_timing() -> None:
    model = skeleton(read_config(bench_config()))
    millions = {
        name: round(sum(parameter.numel() for parameter in part.parameters()) / 1e6)
        for name, part in model.named_children()
    }
    assert millions == {"llm": 95, "vpm": 16, "resampler": 3, "apm": 15, "audio_projection_layer": 1, "tts": 39}
