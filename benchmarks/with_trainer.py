"""The same trial by transformers' Trainer at its best: padded to the batch, texts of like length together."""

from __future__ import annotations

import tempfile
from pathlib import Path

from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from benchmarks.as_released import Done, Phases, start_classifier
from companion import interventions, models, tasks
from companion.protocols import protocol
from companion.trial import Trial


def finetune(trial: Trial, data_dir: Path | None) -> Done:
    """Only the trial's examples are tokenized; nothing is logged, saved or evaluated while training."""
    phases = Phases()
    data, folder = tasks.load(trial.task, data_dir), models.find(trial.model)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    network = BertForSequenceClassification.from_pretrained(
        folder, num_labels=2, dtype="float32", use_safetensors=True, trust_remote_code=False
    )
    rows = data.train.select(tasks.subset(data, trial.train_size, trial.seed))
    train, dev = (_tokenized(tokenizer, data.task, split, trial, network) for split in (rows, data.dev))
    phases.end("data and tokens")
    start_classifier(network, trial)
    interventions.reinitialize(
        network.bert.encoder.layer,
        trial.reinitialized,
        protocol=protocol(trial.protocol),
        sigma=network.config.initializer_range,
        seed=trial.seed,
    )
    phases.end("new weights")
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            network, _arguments(trial, folder), train_dataset=train, data_collator=DataCollatorWithPadding(tokenizer)
        )
        steps = trainer.train().global_step
        phases.end("training")
        predicted = trainer.predict(dev)  # in an order of its own, as texts of like length go together
    phases.end("evaluation")
    score = tasks.score(data.task.metric, predicted.label_ids, predicted.predictions.argmax(-1))
    return Done([float("nan")] * steps, score, phases.seconds)


def _tokenized(tokenizer, task: tasks.Task, split, trial: Trial, network):
    limit = min(trial.max_length, network.config.max_position_embeddings)

    def encode(rows):
        return tokenizer(*(rows[name] for name in task.texts), truncation=True, max_length=limit)

    dropped = [name for name in split.column_names if name != "label"]
    return split.map(encode, batched=True, remove_columns=dropped, keep_in_memory=True)


def _arguments(trial: Trial, folder: str) -> TrainingArguments:
    return TrainingArguments(
        folder,
        per_device_train_batch_size=trial.batch_size,
        num_train_epochs=trial.epochs,
        learning_rate=trial.learning_rate,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        adam_epsilon=1e-8,
        weight_decay=0.0,
        max_grad_norm=1.0,
        train_sampling_strategy="group_by_length",
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=trial.seed,
        dataloader_pin_memory=False,
    )
