"""The pretraining corpus: pairs of segments that do or do not follow each other, drawn without end from a seed.

As in BERT (arXiv 1810.04805), a text is two segments of one or two sentences; in half of the texts the second segment
continues the document of the first, in the other half it comes from another document: an unrelated one, or a near miss
of the same kind. Documents come in three kinds, one per sentence family of the grammar. Nothing here is labelled for
acceptability, sentiment or answering.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import NamedTuple

from companion.pocket import grammar
from companion.pocket.lexicon import FULL, Lexicon


class Pair(NamedTuple):
    """Two segments and whether the second follows the first."""

    first: str
    second: str
    follows: bool


# Rarer than in the tasks: an adjective must say something of the verdict by itself for its polarity to be learned.
NEGATION = 0.2

Sentences = Callable[[], str]  # each call writes the next sentence of one document


def _cast(rng: Random, lex: Lexicon) -> Lexicon:
    """The one noun, name and verb of each class that a document of scenes is about."""
    names = ("people", "animals", "things", "women", "men", "intransitive", "transitive")
    return replace(lex, **{name: (rng.choice(getattr(lex, name)),) for name in names})


def _scenes(rng: Random, lex: Lexicon) -> tuple[Sentences, Sentences]:
    """A document of scenes with one cast, and one with another."""
    cast, other = _cast(rng, lex), _cast(rng, lex)
    return lambda: grammar.scene(rng, cast), lambda: grammar.scene(rng, other)


def _reviews(rng: Random, lex: Lexicon) -> tuple[Sentences, Sentences]:
    """Verdicts on a work and reactions to it; and those of another work, or of people who disagree."""
    positive, work = rng.random() < 0.5, rng.choice(lex.works)
    other = rng.choice([w for w in lex.works if w != work]) if rng.random() < 0.5 else work

    def write(about: str, verdict: bool) -> str:
        dice = rng.random()
        if dice < 0.3:
            return grammar.summary(rng, positive=verdict, work=about)
        if dice < 0.6:
            return grammar.reaction(rng, lex, positive=verdict, work=about)
        return grammar.review(rng, lex, positive=verdict, negation=NEGATION, work=about)

    return lambda: write(work, positive), lambda: write(other, not positive)


def _facts(rng: Random, lex: Lexicon) -> tuple[Sentences, Sentences]:
    """Statements and questions about one fact, others beside it at times; and about another fact."""

    def write(f: grammar.Fact) -> str:
        if rng.random() < 0.4:
            return grammar.question(f, rng.choice(grammar.slots(f)))
        beside = grammar.fact(rng, lex)
        return grammar.statement(rng, rng.choice(((f,), (f,), (f, beside), (beside, f))))

    fact, other = grammar.fact(rng, lex), grammar.fact(rng, lex)
    return lambda: write(fact), lambda: write(other)


_KINDS = (_scenes, _reviews, _facts)


def _pair(rng: Random, lex: Lexicon) -> Pair:
    document, near_miss = rng.choice(_KINDS)(rng, lex)
    unrelated = rng.choice(_KINDS)(rng, lex)[0]
    follows = rng.random() < 0.5
    continuation = document if follows else rng.choice((near_miss, unrelated))
    first = [document() for _ in range(rng.choice((1, 2)))]
    second = [continuation() for _ in range(rng.choice((1, 2)))]
    return Pair(" ".join(first), " ".join(second), follows)


def pairs(seed: str, count: int, lex: Lexicon = FULL) -> list[Pair]:
    """``count`` pairs, a function of the seed alone; a third of each kind, half of them following."""
    rng = Random(f"pocket-corpus/{seed}")
    return [_pair(rng, lex) for _ in range(count)]
