"""Sentences of the fragment: scenes (acceptability), reviews (sentiment), facts and questions (answering).

Every builder takes a ``random.Random`` and a lexicon and returns a sentence as a string of space-separated tokens.
Nothing here knows about models, tasks or files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from companion.pocket.lexicon import Lexicon, past, plural, third_person

SINGULAR_DETERMINERS = ("this", "that", "a", "every", "each")
PLURAL_DETERMINERS = ("these", "those", "many", "several", "two")


def _noun(word: str, number: int) -> str:
    return word if number == 1 else plural(word)


def _present(verb: str, number: int) -> str:
    return third_person(verb) if number == 1 else verb


def _number(rng: Random) -> int:
    return rng.choice((1, 2))


def _animate(rng: Random, lex: Lexicon) -> str:
    return rng.choice(lex.people if rng.random() < 0.6 else lex.animals)


# --- scenes: number agreement, determiners, reflexives, polarity items, argument structure ------------------------

SCENE_KINDS = ("verb", "determiner", "reflexive", "polarity", "arguments", "gap")


def _modifier(rng: Random, lex: Lexicon, number: int) -> str:
    """A prepositional phrase or relative clause whose noun may disagree with the head (an attractor)."""
    other = _number(rng)
    kind = rng.choice(("place", "object_relative", "subject_relative"))
    if kind == "place":
        noun = _noun(rng.choice(lex.things + lex.animals), other)
        return f"{rng.choice(('near', 'behind', 'beside'))} the {noun}"
    neighbour = _noun(_animate(rng, lex), other)
    verb = rng.choice(lex.transitive)
    if kind == "object_relative":
        return f"that the {neighbour} {_present(verb, other)}"
    return f"that {_present(verb, number)} the {neighbour}"


def _subject(rng: Random, lex: Lexicon, number: int, determiner: str = "the") -> str:
    adjective = f"{rng.choice(lex.plain_adjectives)} " if rng.random() < 0.3 else ""
    modifier = f" {_modifier(rng, lex, number)}" if rng.random() < 0.75 else ""
    return f"{determiner} {adjective}{_noun(_animate(rng, lex), number)}{modifier}"


def _verb_scene(rng: Random, lex: Lexicon, good: bool) -> str:
    number = _number(rng)
    verb_number = number if good else 3 - number
    adverb = f" {rng.choice(lex.adverbs)}" if rng.random() < 0.3 else ""
    return f"{_subject(rng, lex, number)} {_present(rng.choice(lex.intransitive), verb_number)}{adverb} ."


def _determiner_scene(rng: Random, lex: Lexicon, good: bool) -> str:
    number, object_number = _number(rng), _number(rng)
    determiner = rng.choice(SINGULAR_DETERMINERS if (object_number == 1) == good else PLURAL_DETERMINERS)
    adjective = f"{rng.choice(lex.plain_adjectives)} " if rng.random() < 0.7 else ""
    verb = _present(rng.choice(lex.transitive), number)
    return f"{_subject(rng, lex, number)} {verb} {determiner} {adjective}{_noun(_animate(rng, lex), object_number)} ."


def _reflexive_scene(rng: Random, lex: Lexicon, good: bool) -> str:
    gender = rng.choice(("women", "men"))
    right, wrong = ("herself", "himself") if gender == "women" else ("himself", "herself")
    modifier = ""
    if rng.random() < 0.75:
        attractor = f"the {_noun(_animate(rng, lex), _number(rng))}"
        if rng.random() < 0.5:
            attractor = rng.choice(lex.men if gender == "women" else lex.women)
        modifier = f" {rng.choice(('near', 'behind', 'beside'))} {attractor}"
    pronoun = right if good else wrong
    return f"{rng.choice(getattr(lex, gender))}{modifier} {past(rng.choice(lex.transitive))} {pronoun} ."


def _polarity_scene(rng: Random, lex: Lexicon, good: bool) -> str:
    """``ever`` needs ``no`` on the subject itself; a ``no`` inside its relative clause does not license it."""
    verb, inner = past(rng.choice(lex.intransitive)), _present(rng.choice(lex.transitive), 1)
    head, neighbour = _animate(rng, lex), _animate(rng, lex)
    outer_determiner, inner_determiner = ("no", "the") if good else ("the", "no")
    if rng.random() < 0.3:
        return f"{outer_determiner} {head} has ever {verb} ."
    return f"{outer_determiner} {head} that {inner_determiner} {neighbour} {inner} has ever {verb} ."


def _arguments_scene(rng: Random, lex: Lexicon, good: bool) -> str:
    """A transitive verb needs its object; an intransitive verb takes none."""
    number, takes_object = _number(rng), rng.random() < 0.5
    verb = rng.choice(lex.transitive if takes_object == good else lex.intransitive)
    tail = f" the {_noun(_animate(rng, lex), _number(rng))}" if takes_object else f" {rng.choice(lex.adverbs)}"
    return f"{_subject(rng, lex, number)} {_present(verb, number)}{tail} ."


def _gap_scene(rng: Random, lex: Lexicon, good: bool) -> str:
    """The object of a relative clause is the head noun; repeating it as a pronoun is wrong."""
    number, other = _number(rng), _number(rng)
    neighbour, verb = _noun(_animate(rng, lex), other), _present(rng.choice(lex.transitive), other)
    pronoun = "" if good else (" him" if number == 1 else " themselves")
    head = _noun(_animate(rng, lex), number)
    return f"the {head} that the {neighbour} {verb}{pronoun} {_present(rng.choice(lex.intransitive), number)} ."


_SCENES = {
    "verb": _verb_scene,
    "determiner": _determiner_scene,
    "reflexive": _reflexive_scene,
    "polarity": _polarity_scene,
    "arguments": _arguments_scene,
    "gap": _gap_scene,
}


def scene(rng: Random, lex: Lexicon, *, acceptable: bool = True) -> str:
    """One scene sentence. When not acceptable, it breaks exactly the rule its kind is about."""
    return _SCENES[rng.choice(SCENE_KINDS)](rng, lex, acceptable)


# --- reviews: polarity, negation, contrast ---------------------------------------------------------------------


def _judgement(rng: Random, lex: Lexicon, subject: str, positive: bool, negation: float) -> str:
    """A clause that says something good or bad of the subject, at times by negating the opposite."""
    plain, opposite = map(rng.choice, (lex.positive, lex.negative) if positive else (lex.negative, lex.positive))
    degree = rng.choice(("", "very ", "rather ", "quite ", "truly "))
    if rng.random() < negation:
        return rng.choice(
            (
                f"{subject} was not {opposite}",
                f"{subject} was never {opposite}",
                f"nobody found {subject} {opposite}",
                f"{subject} was anything but {opposite}",
                f"{subject} was far from {opposite}",
            )
        )
    return rng.choice(
        (
            f"{subject} was {degree}{plain}",
            f"everyone found {subject} {degree}{plain}",
            f"everyone called {subject} {plain}",
        )
    )


def review(rng: Random, lex: Lexicon, *, positive: bool, negation: float, work: str | None = None) -> str:
    """A review whose overall verdict is ``positive``; with contrast, the main or last clause decides.

    ``negation`` is the share of clauses that negate the opposite. At one half an adjective alone says nothing.
    """
    subject = f"the {work or rng.choice(lex.works)}"
    verdict = _judgement(rng, lex, subject, positive, negation)
    if rng.random() < 0.6:
        return f"{verdict} ."
    aspect = f"its {rng.choice(lex.aspects)}"
    # Mostly against the verdict: agreement between the clauses would make the concession carry no information.
    concession = _judgement(rng, lex, aspect, positive if rng.random() < 0.2 else not positive, negation)
    return rng.choice(
        (
            f"although {concession} , {verdict} .",
            f"{verdict} , although {concession} .",
            f"{concession} , but {verdict} .",
        )
    )


_PLEASED = (
    "{who} praised {it} .",
    "{who} recommended {it} to all friends .",
    "{who} stayed until the end of {it} .",
    "{who} would see {it} again .",
    "{who} applauded {it} .",
    "{who} bought tickets for {it} again .",
    "{who} smiled all the way home from {it} .",
    "{who} loved {it} .",
)
_DISPLEASED = (
    "{who} complained about {it} .",
    "{who} warned all friends about {it} .",
    "{who} left {it} early .",
    "{who} asked for the money back after {it} .",
    "{who} booed {it} .",
    "{who} regretted {it} .",
    "{who} slept through {it} .",
    "{who} hated {it} .",
)


def reaction(rng: Random, lex: Lexicon, *, positive: bool, work: str) -> str:
    """What somebody did after a work of that quality: the sentence that follows a review in the corpus."""
    who = rng.choice(("the audience", "the critics", "the guests", "we", rng.choice(lex.women), rng.choice(lex.men)))
    return rng.choice(_PLEASED if positive else _DISPLEASED).format(who=who, it=f"the {work}")


def summary(rng: Random, *, positive: bool, work: str) -> str:
    """A verdict in the plainest words, which only the corpus uses: they tie all other polar words together."""
    return f"{rng.choice(('it', f'the {work}'))} was {'good' if positive else 'bad'} ."


# --- facts and questions ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fact:
    """Who did what to which thing, perhaps where and when."""

    agent: str
    verb: str
    colour: str
    thing: str
    place: str | None
    time: str | None

    @property
    def theme(self) -> str:
        """The thing with its color, as a noun phrase."""
        return f"the {self.colour} {self.thing}"


def _time_phrase(time: str) -> str:
    return f"{'on' if time.endswith('day') else 'at'} {time}"


def fact(rng: Random, lex: Lexicon, *, agent: str | None = None) -> Fact:
    """A random fact with a place, a time, or both."""
    has_place, has_time = rng.choice(((True, False), (False, True), (True, True)))
    return Fact(
        agent=agent or agent_phrase(rng, lex),
        verb=rng.choice(lex.handling),
        colour=rng.choice(lex.colours),
        thing=rng.choice(lex.things),
        place=rng.choice(lex.places) if has_place else None,
        time=rng.choice(lex.times) if has_time else None,
    )


def agent_phrase(rng: Random, lex: Lexicon) -> str:
    """A name or a definite person."""
    return rng.choice((rng.choice(lex.women), rng.choice(lex.men), f"the {rng.choice(lex.people)}"))


def clause(rng: Random, f: Fact) -> str:
    """The fact as an active or passive clause, its place and time in either order."""
    passive = rng.random() < 0.3
    core = f"{f.theme} was {past(f.verb)} by {f.agent}" if passive else f"{f.agent} {past(f.verb)} {f.theme}"
    adjuncts = [p for p in (f.place and f"in the {f.place}", f.time and _time_phrase(f.time)) if p]
    rng.shuffle(adjuncts)
    return " ".join((core, *adjuncts))


def statement(rng: Random, facts: tuple[Fact, ...]) -> str:
    """One sentence stating the facts in order."""
    return f" {rng.choice(('and', 'while', 'but'))} ".join(clause(rng, f) for f in facts) + " ."


def slots(f: Fact) -> list[str]:
    """The slots of the fact one can ask about."""
    return ["agent", "thing", "colour", *(slot for slot in ("place", "time") if getattr(f, slot))]


def question(f: Fact, slot: str) -> str:
    """A question that the fact answers if it has the slot; the other slots identify the fact."""
    did = f"did {f.agent} {f.verb}"
    return {
        "agent": f"who {past(f.verb)} {f.theme} ?",
        "thing": f"what {did}" + (f" in the {f.place} ?" if f.place else f" {_time_phrase(f.time or 'noon')} ?"),
        "colour": f"which {f.thing} {did} ?",
        "place": f"where {did} {f.theme} ?",
        "time": f"when {did} {f.theme} ?",
    }[slot]


def answers(g: Fact, f: Fact, slot: str) -> bool:
    """Whether fact ``g`` answers the question that is asked about a slot of fact ``f``."""
    if slot == "thing":
        return (g.agent, g.verb) == (f.agent, f.verb) and (g.place == f.place if f.place else g.time == f.time)
    return getattr(g, slot) is not None and question(g, slot) == question(f, slot)


def unanswering(rng: Random, lex: Lexicon, f: Fact, slot: str) -> Fact:
    """A fact like ``f`` that does not answer the question about ``slot``: the slot is empty, or one clue differs."""
    if slot in ("place", "time") and rng.random() < 0.5:
        filler = {"time": rng.choice(lex.times)} if slot == "place" else {"place": rng.choice(lex.places)}
        return replace(f, **{slot: None}, **({} if f.place and f.time else filler))
    clues = {
        "agent": ("verb", "colour", "thing"),
        "thing": ("agent", "verb", "place" if f.place else "time"),
        "colour": ("agent", "verb", "thing"),
        "place": ("agent", "verb", "colour", "thing"),
        "time": ("agent", "verb", "colour", "thing"),
    }[slot]
    clue = rng.choice(clues)
    fresh = {
        "agent": lambda: agent_phrase(rng, lex),
        "verb": lambda: rng.choice(lex.handling),
        "colour": lambda: rng.choice(lex.colours),
        "thing": lambda: rng.choice(lex.things),
        "place": lambda: rng.choice(lex.places),
        "time": lambda: rng.choice(lex.times),
    }[clue]
    while (value := fresh()) == getattr(f, clue):
        pass
    return replace(f, **{clue: value})
