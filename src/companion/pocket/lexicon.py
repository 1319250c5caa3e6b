"""The words of the generated English fragment, by class, and how they inflect."""

from __future__ import annotations

from dataclasses import dataclass, replace


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@dataclass(frozen=True)
class Lexicon:
    """Open word classes; every sentence of the fragment draws its content words from one of these.

    Nouns and verbs are stored in their base form and inflected by :func:`plural`, :func:`third_person` and
    :func:`past`. All verbs and nouns are regular, so that the inflection rules are the whole morphology.
    """

    people: tuple[str, ...]
    animals: tuple[str, ...]
    things: tuple[str, ...]
    places: tuple[str, ...]
    works: tuple[str, ...]
    aspects: tuple[str, ...]
    women: tuple[str, ...]
    men: tuple[str, ...]
    colours: tuple[str, ...]
    plain_adjectives: tuple[str, ...]
    intransitive: tuple[str, ...]
    transitive: tuple[str, ...]
    handling: tuple[str, ...]
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    adverbs: tuple[str, ...]
    times: tuple[str, ...]


FULL = Lexicon(
    people=_words(
        "cook doctor teacher farmer sailor painter lawyer baker driver singer dancer judge nurse pilot poet "
        "tailor clerk hunter king queen soldier writer actor banker"
    ),
    animals=_words("dog cat bird horse cow goat duck frog snake rabbit lion tiger bear eagle owl whale spider donkey"),
    things=_words(
        "door cup chair table lamp box boat cart window basket bottle candle clock coat drum flag hammer hat "
        "ladder letter map mirror ring vase"
    ),
    places=_words("park kitchen garden church school market forest harbor village office station museum cellar barn"),
    works=_words("film book play song meal novel concert show poem album opera series speech painting"),
    aspects=_words("ending plot cast music pacing script scenery humor tone service"),
    women=_words("anna maria lucy emma clara julia sarah helen alice nora"),
    men=_words("john peter david paul thomas henry george simon oscar felix"),
    colours=_words("red blue green yellow black white brown pink gray golden"),
    plain_adjectives=_words("old young tall small large heavy local quiet"),
    intransitive=_words("bark dance laugh wait work listen wander smile shout whisper travel yawn"),
    transitive=_words("admire follow visit help thank watch trust greet avoid fear ignore chase protect warn"),
    handling=_words("paint clean move repair open close carry cover borrow deliver examine polish push wash"),
    positive=_words(
        "superb wonderful brilliant delightful charming moving elegant witty gripping dazzling graceful lovely "
        "magical masterful memorable perfect pleasant radiant refreshing remarkable sincere splendid stirring "
        "stunning tender thrilling touching vivid clever glorious"
    ),
    negative=_words(
        "awful dull boring terrible clumsy tedious shallow dreary bland messy pointless stale weak ugly sloppy "
        "crude vulgar hollow horrible lifeless lazy mediocre muddled painful pathetic predictable stupid "
        "tiresome trite wretched"
    ),
    adverbs=_words("slowly quietly loudly today again daily alone outside"),
    times=_words("monday tuesday wednesday thursday friday saturday sunday noon midnight dawn sunset easter"),
)

# Determiners, auxiliaries, question words and the wording of reviews and reactions.
FUNCTION_WORDS = _words(
    "the a every each this that these those many several two no nobody and but although not never was has ever who "
    "what where when which did by in near behind beside at on from it good bad him himself herself themselves we "
    "everyone found called far anything while its very rather quite truly . , ?"
)
REACTIONS = _words(
    "praised recommended loved applauded stayed until the end of bought tickets for would see again to all friends "
    "smiled way home asked money back after left early regretted complained about booed slept through warned hated "
    "audience critics guests"
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def plural(noun: str) -> str:
    """Regular plural of a noun (``box`` → ``boxes``)."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def third_person(verb: str) -> str:
    """Third person singular, present tense: the same spelling rules as the plural."""
    return plural(verb)


def past(verb: str) -> str:
    """Regular past tense (``carry`` → ``carried``)."""
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return verb + "ed"


# One word in HELD_OUT_EVERY of each open class never occurs in a fine-tuning training pool.
HELD_OUT_EVERY = 3
_SPLIT = ("people", "animals", "things", "works", "women", "men", "intransitive", "transitive", "handling")
_POLAR = ("positive", "negative")


def for_training() -> Lexicon:
    """The words fine-tuning training examples may use: two thirds of each open class."""
    return replace(
        FULL,
        **{
            name: tuple(word for i, word in enumerate(getattr(FULL, name)) if i % HELD_OUT_EVERY)
            for name in (*_SPLIT, *_POLAR)
        },
    )


def for_dev() -> Lexicon:
    """The words dev examples use: every noun, verb and name, but only polar adjectives unseen in training.

    A bag of words fitted on the training pool therefore says nothing about a dev adjective's polarity: that
    knowledge can only come from pretraining.
    """
    return replace(FULL, **{name: getattr(FULL, name)[::HELD_OUT_EVERY] for name in _POLAR})


def vocabulary() -> tuple[str, ...]:
    """Every word form of the fragment after the special tokens, in a fixed order: the tokenizer's vocabulary."""
    nouns = (*FULL.people, *FULL.animals, *FULL.things, *FULL.places, *FULL.works)
    verbs = (*FULL.intransitive, *FULL.transitive, *FULL.handling)
    forms = [
        *SPECIAL,
        *FUNCTION_WORDS,
        *nouns,
        *map(plural, nouns),
        *verbs,
        *map(third_person, verbs),
        *map(past, verbs),
        *(word for name in ("aspects", "women", "men", "colours", "plain_adjectives") for word in getattr(FULL, name)),
        *(word for name in ("positive", "negative", "adverbs", "times") for word in getattr(FULL, name)),
        *REACTIONS,
    ]
    return tuple(dict.fromkeys(forms))
