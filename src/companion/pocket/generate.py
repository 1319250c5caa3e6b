"""The three pocket tasks, generated: labelled examples in the columns and label order of their GLUE namesakes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from companion.pocket import grammar
from companion.pocket.lexicon import Lexicon, for_dev, for_training

Example = dict[str, str | int]

TRAIN_SIZE = 8000
DEV_SIZE = 1000
NEAR_MISSES = 0.5  # share of unanswered questions whose sentence differs from an answer in one clue only
NEGATION = 0.4  # share of clauses in labelled reviews that negate the opposite


def acceptability(rng: Random, lex: Lexicon, label: int) -> Example:
    """``pocket-cola``: 1 = acceptable, 0 = one rule of the grammar is broken."""
    return {"sentence": grammar.scene(rng, lex, acceptable=bool(label)), "label": label}


def sentiment(rng: Random, lex: Lexicon, label: int) -> Example:
    """``pocket-sst2``: 1 = the verdict is positive, 0 = negative."""
    return {"sentence": grammar.review(rng, lex, positive=bool(label), negation=NEGATION), "label": label}


def answering(rng: Random, lex: Lexicon, label: int) -> Example:
    """``pocket-qnli``: 0 = the sentence answers the question (entailment, as on the hub), 1 = it does not."""
    f = grammar.fact(rng, lex)
    slot = rng.choice(grammar.slots(f))
    question = grammar.question(f, slot)
    facts = [_off_topic(rng, lex, f, slot) if label else f]
    if rng.random() < 0.5:
        facts.append(grammar.fact(rng, lex))
        rng.shuffle(facts)
    if label and any(grammar.answers(g, f, slot) for g in facts):  # by accident: a fact drawn at random can answer
        return answering(rng, lex, label)
    return {"question": question, "sentence": grammar.statement(rng, tuple(facts)), "label": label}


def _off_topic(rng: Random, lex: Lexicon, f: grammar.Fact, slot: str) -> grammar.Fact:
    """A fact that does not answer: a near miss, or another fact that may share the person."""
    if rng.random() < NEAR_MISSES:
        return grammar.unanswering(rng, lex, f, slot)
    return grammar.fact(rng, lex, agent=rng.choice((None, f.agent)))


GENERATORS: dict[str, Callable[[Random, Lexicon, int], Example]] = {
    "pocket-cola": acceptability,
    "pocket-sst2": sentiment,
    "pocket-qnli": answering,
}


def _draw(rng: Random, task: str, lex: Lexicon, count: int, taken: set[tuple]) -> list[Example]:
    """``count`` balanced examples, none of whose texts is in ``taken`` (which grows)."""
    examples: list[Example] = []
    while len(examples) < count:
        example = GENERATORS[task](rng, lex, len(examples) % 2)
        text = tuple(value for key, value in example.items() if key != "label")
        if text not in taken:
            taken.add(text)
            examples.append(example)
    rng.shuffle(examples)
    return [{**example, "idx": i} for i, example in enumerate(examples)]


def examples(task: str, pool: str = "published") -> tuple[list[Example], list[Example]]:
    """Train and dev examples of a pocket task (8,000 and 1,000), the same on every machine.

    ``pool`` names an independent draw: published trials use ``published``; hyperparameters are chosen on others.
    Dev uses words no training example has (:func:`companion.pocket.lexicon.for_dev`), and the two share no text.
    """
    taken: set[tuple] = set()
    rng = Random(f"pocket-tasks/{pool}/{task}")
    dev = _draw(rng, task, for_dev(), DEV_SIZE, taken)
    return _draw(rng, task, for_training(), TRAIN_SIZE, taken), dev
