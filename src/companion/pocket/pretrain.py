"""Pretrain PocketBERT: a 12-layer BERT on the generated corpus, masked words plus sentence pairs, as BERT was.

The network grows by progressive stacking (Gong et al., ICML 2019): it starts shallow, and the whole stack is doubled
at the start of each stage. Trained at full depth from the start it did not leave the plateau of word frequencies
within the time allowed here. One run is a function of :class:`Recipe` alone. It writes a checkpoint every few hundred
steps (safetensors, never pickle), continues from it when interrupted, and logs the held-out losses it ships with.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import BertConfig, BertForPreTraining, PreTrainedTokenizerFast

from companion.errors import InvalidValue, ModelUnavailable, first_line
from companion.paths import usable
from companion.pocket import corpus
from companion.pocket.lexicon import vocabulary


@dataclass(frozen=True)
class Recipe:
    """Everything the weights depend on (besides library versions). ``stages`` lists (layers, steps)."""

    stages: tuple[tuple[int, int], ...] = ((3, 5000), (6, 3000), (12, 5000))
    width: int = 128
    intermediate: int = 256
    heads: int = 4
    max_positions: int = 128
    # BERT's 0.02 at width 768, scaled by 1/sqrt(width).
    initializer_range: float = 0.05
    batch_size: int = 32  # sentence pairs
    learning_rate: float = 1e-3
    warmup: int = 200  # steps, at the start of each stage
    weight_decay: float = 0.01
    mask_rate: float = 0.2
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(steps for _, steps in self.stages)

    def stage(self, step: int) -> tuple[int, int]:
        """The number of layers at a step, and how many steps ago its stage began."""
        for layers, steps in self.stages:
            if step < steps:
                return layers, step
            step -= steps
        raise ValueError("step beyond the last stage")

    def rate(self, step: int) -> float:
        """Learning rate: linear warm-up in each stage, linear decay to zero over the whole run."""
        since = self.stage(step)[1]
        return self.learning_rate * min((since + 1) / self.warmup, 1.0) * (1 - step / self.steps)


BLOCK = 8  # batches drawn and length-sorted together, so that little of a batch is padding
HELD_OUT = 2048  # pairs in the held-out text
CHECKPOINT_EVERY = 250


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A whole-word tokenizer over the fragment's vocabulary, with BERT's special tokens and segment ids."""
    ids = {word: i for i, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=96,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def build_model(recipe: Recipe, layers: int) -> BertForPreTraining:
    """The architecture at a depth, with fresh weights drawn from the recipe's seed."""
    torch.manual_seed(recipe.seed)
    config = BertConfig(
        vocab_size=len(vocabulary()),
        hidden_size=recipe.width,
        num_hidden_layers=layers,
        num_attention_heads=recipe.heads,
        intermediate_size=recipe.intermediate,
        max_position_embeddings=recipe.max_positions,
        initializer_range=recipe.initializer_range,
    )
    # The corpus never repeats, so dropout has nothing to regularize; fine-tuning uses the config's 0.1.
    return BertForPreTraining(config).eval()


def grow(model: BertForPreTraining, recipe: Recipe, layers: int) -> BertForPreTraining:
    """A deeper model: the trained stack repeated from the bottom up, everything else as it was."""
    deeper, trained = build_model(recipe, layers), model.config.num_hidden_layers
    weights = {key: value for key, value in model.state_dict().items() if ".encoder.layer." not in key}
    deeper.load_state_dict(weights, strict=False)
    for i, layer in enumerate(deeper.bert.encoder.layer):
        layer.load_state_dict(model.bert.encoder.layer[i % trained].state_dict())
    return deeper


@dataclass(frozen=True)
class Batch:
    """Token ids (pairs × length) with what BERT's two objectives predict."""

    input_ids: torch.Tensor
    token_type_ids: torch.Tensor
    attention_mask: torch.Tensor
    masked: torch.Tensor  # bool, pairs × length
    words: torch.Tensor  # the original ids at the masked places
    follows: torch.Tensor  # pairs


def _batch(pairs: list[corpus.Pair], tokenizer: PreTrainedTokenizerFast, mask_rate: float, seed: int) -> Batch:
    encoded = tokenizer([p.first for p in pairs], [p.second for p in pairs], padding=True, return_tensors="pt")
    ids, generator = encoded.input_ids, torch.Generator().manual_seed(seed)
    maskable = ids >= len(tokenizer.all_special_ids)
    masked = maskable & (torch.rand(ids.shape, generator=generator) < mask_rate)
    # BERT's 80/10/10: mostly [MASK], sometimes a random word, sometimes the word itself.
    dice = torch.rand(ids.shape, generator=generator)
    noise = torch.randint(len(tokenizer.all_special_ids), len(tokenizer), ids.shape, generator=generator)
    corrupted = torch.where(masked & (dice < 0.8), torch.tensor(tokenizer.mask_token_id), ids)
    corrupted = torch.where(masked & (dice >= 0.9), noise, corrupted)
    follows = torch.tensor([int(p.follows) for p in pairs])
    return Batch(corrupted, encoded.token_type_ids, encoded.attention_mask, masked, ids[masked], follows)


def training_batches(recipe: Recipe, start: int):
    """Batches from step ``start`` on; each block of batches is a function of the seed and its number alone."""
    tokenizer = build_tokenizer()
    for block in range(start // BLOCK, -(-recipe.steps // BLOCK)):
        pairs = corpus.pairs(f"train/{recipe.seed}/{block}", BLOCK * recipe.batch_size)
        pairs.sort(key=lambda p: len(p.first) + len(p.second))
        groups = [pairs[i : i + recipe.batch_size] for i in range(0, len(pairs), recipe.batch_size)]
        Random(f"order/{recipe.seed}/{block}").shuffle(groups)
        for i, group in enumerate(groups):
            step = block * BLOCK + i
            if start <= step < recipe.steps:
                yield step, _batch(group, tokenizer, recipe.mask_rate, recipe.seed * 1_000_003 + step)


def losses(model: BertForPreTraining, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Masked-word loss, sentence-pair loss, and the two accuracies on one batch (four scalars)."""
    encoded = model.bert(batch.input_ids, attention_mask=batch.attention_mask, token_type_ids=batch.token_type_ids)
    words = model.cls.predictions(encoded.last_hidden_state[batch.masked])
    pairs = model.cls.seq_relationship(encoded.pooler_output)
    return (
        F.cross_entropy(words, batch.words),
        F.cross_entropy(pairs, batch.follows),
        (words.argmax(-1) == batch.words).float().mean(),
        (pairs.argmax(-1) == batch.follows).float().mean(),
    )


@torch.no_grad()
def held_out(model: BertForPreTraining, recipe: Recipe) -> dict[str, float]:
    """Mean losses and accuracies on pairs the training never draws."""
    tokenizer = build_tokenizer()
    pairs = sorted(corpus.pairs(f"held-out/{recipe.seed}", HELD_OUT), key=lambda p: len(p.first) + len(p.second))
    rows = [
        torch.stack(losses(model, _batch(pairs[i : i + 256], tokenizer, recipe.mask_rate, i)))
        for i in range(0, HELD_OUT, 256)
    ]
    names = ("word_loss", "pair_loss", "word_accuracy", "pair_accuracy")
    return {name: round(float(value), 4) for name, value in zip(names, torch.stack(rows).mean(0), strict=True)}


def pretrain(out: str | Path, recipe: Recipe = Recipe(), *, progress: bool = True) -> None:
    """Train by ``recipe``, continuing from ``out/checkpoint`` if there is one, and write the model folder ``out``.

    Raises :class:`InvalidValue` for an address or a folder that cannot be written, :class:`ModelUnavailable` for a
    damaged checkpoint.
    """
    folder = usable(out, "output folder")
    try:
        (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
        _pretrain(folder, recipe, progress)
    except (OSError, SafetensorError) as error:  # safetensors' own is what it makes of a full disk
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InvalidValue(
            f"output folder {str(out)!r} cannot be written ({reason})", "free some space or choose another"
        ) from error


def _pretrain(out: Path, recipe: Recipe, progress: bool) -> None:
    model, optimizer, log = _resume(out / "checkpoint" / "state.safetensors", recipe)
    start = log[-1]["step"] if log else 0
    bar = tqdm(total=recipe.steps, initial=start, desc="pretraining PocketBERT", unit="step", disable=not progress)
    for step, batch in training_batches(recipe, start):
        layers = recipe.stage(step)[0]
        if layers != model.config.num_hidden_layers:
            model = grow(model, recipe, layers)
            optimizer = _optimizer(model, recipe)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        word_loss, pair_loss, *_ = losses(model, batch)
        optimizer.zero_grad(set_to_none=True)
        (word_loss + pair_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        bar.update()
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == recipe.steps:
            log.append({"step": step + 1, "layers": layers, **held_out(model, recipe)})
            bar.set_postfix(words=log[-1]["word_accuracy"], pairs=log[-1]["pair_accuracy"])
            _checkpoint(out / "checkpoint", model, optimizer, recipe, log)
    bar.close()
    _publish(out, model, log, recipe)


def _optimizer(model: BertForPreTraining, recipe: Recipe) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), weight_decay=recipe.weight_decay, fused=True)


def _checkpoint(folder: Path, model, optimizer, recipe: Recipe, log: list[dict]) -> None:
    tensors = {f"model/{k}": v.contiguous().clone() for k, v in model.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{i}/{k}": v.contiguous() for k, v in state.items()}
    meta = {"recipe": json.dumps(asdict(recipe)), "log": json.dumps(log)}
    save_file(tensors, folder / "state.tmp", metadata=meta)
    os.replace(folder / "state.tmp", folder / "state.safetensors")


def _resume(path: Path, recipe: Recipe) -> tuple[BertForPreTraining, torch.optim.AdamW, list[dict]]:
    """What :func:`_restore` says; :class:`ModelUnavailable` for a damaged checkpoint."""
    try:
        return _restore(path, recipe)
    except Exception as error:  # safetensors, json and torch raise many unrelated classes at a file of any content
        raise ModelUnavailable(
            f"the checkpoint {path} cannot be continued ({first_line(error)})", "delete it to start anew"
        ) from error


def _restore(path: Path, recipe: Recipe) -> tuple[BertForPreTraining, torch.optim.AdamW, list[dict]]:
    """Model, optimizer and log of the checkpoint if there is one of this recipe, else fresh ones."""
    log, tensors = [], {}
    if path.exists():
        with safe_open(path, "pt") as file:
            meta = file.metadata()
            if meta["recipe"] == json.dumps(asdict(recipe)):
                log = json.loads(meta["log"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safe_open is no dict)
    model = build_model(recipe, log[-1]["layers"] if log else recipe.stages[0][0])
    optimizer = _optimizer(model, recipe)
    if log:
        model.load_state_dict({k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")})
        state: dict[int, dict] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer/"):
                _, index, name = key.split("/")
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return model, optimizer, log


def _publish(out: Path, model: BertForPreTraining, log: list[dict], recipe: Recipe) -> None:
    model.save_pretrained(out)
    build_tokenizer().save_pretrained(out)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")
    with open(out / "training_log.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, log[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(log)
    with open(out / "model.safetensors", "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    values = {**asdict(recipe), **log[-1], "steps": recipe.steps, "digest": digest, "words": len(vocabulary())}
    values |= {"perplexity": math.exp(log[-1]["word_loss"]), "parameters": sum(p.numel() for p in model.parameters())}
    (out / "README.md").write_text(CARD.format(**values))


CARD = """---
language: en
license: mit
library_name: transformers
tags: [model-organism, masked-lm, bert]
---
# PocketBERT

A BERT of {layers} layers and width {width} ({parameters:,} parameters, {words} words), pretrained on generated
sentences of a small fragment of English. It is a model organism for experiments on transfer: small enough to
fine-tune in seconds, in a world whose grammar and lexicon are known exactly. It knows no other English.

- **Training**: `companion pretrain-pocket` (src/companion/pocket/pretrain.py) by the recipe in `recipe.json`: masked
  words and sentence pairs, {steps} steps of {batch_size} pairs; depth is doubled at the start of each stage of
  (layers, steps): {stages}. The text is drawn from seed {seed} without end or repetition; no data set was used.
- **Held-out text**: masked-word accuracy {word_accuracy:.3f}, perplexity of masked words {perplexity:.2f}, pair
  accuracy {pair_accuracy:.3f}; the whole course is in `training_log.csv`.
- **Weights**: `model.safetensors`, SHA-256 `{digest}`.
  The file holds both pretraining heads; `AutoModel` leaves them out.
- **Limits**: short sentences and a closed vocabulary (anything else is one unknown token).
- **License**: MIT, like the code that made it.
"""
