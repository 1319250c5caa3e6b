"""``companion book`` and ``companion claims``: what is made of results."""

from __future__ import annotations

import argparse
import json

from companion.commands.options import command, planned, profile_options, written
from companion.paths import store_place


def add_book(commands) -> None:
    """The command ``book`` and its options."""
    parser = command(commands, "book", book, "build the book from stored results only")
    about = "whose pages show the profile (default: all of it); other pages show what is published"
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help=about)
    parser.add_argument("--repository", metavar="URL", help="pages link to it: https://github.com/OWNER/NAME")
    profile_options(parser)


def book(arguments: argparse.Namespace) -> None:
    """Execute every notebook from stored results and build the site; what the profile does not have is drawn as the
    notebooks' own defaults say, from what is published."""
    from companion.book import build, weights
    from companion.experiments import EXPERIMENTS
    from companion.store import open_store

    _, wanted = planned(arguments, arguments.experiments)
    open_store(arguments.store)
    others = {"store": written(store_place(arguments.store))} if arguments.store else {}
    pages = {name: wanted.get(name, others) for name in EXPERIMENTS}
    first = build(pages, repository=arguments.repository)
    heavy = weights(first.parent)
    print(f"{len(heavy)} pages; the heaviest is {heavy['page'][0]}, {heavy['bytes'][0] / 1e6:.1f} MB")
    print(f"the book is at {first}")


def add_claims(commands) -> None:
    """The command ``claims`` and its options."""
    parser = command(commands, "claims", claims, "judge the paper's claims on the published tables")
    parser.add_argument("--profile", action="append", metavar="NAME", help="may be repeated (default: all published)")
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects, one per claim and profile")


def claims(arguments: argparse.Namespace) -> None:
    """Print a verdict on each claim for each profile."""
    from companion import claims as judging
    from companion import table
    from companion.errors import TableUnavailable

    names = arguments.profile or table.published_profiles()
    if not names:
        raise TableUnavailable("no table is published", "run a profile and use `companion results publish`")
    verdicts = [verdict for name in names for verdict in judging.judge(table.checked(name))]
    if arguments.json:
        print(json.dumps([verdict.as_dict() for verdict in verdicts], allow_nan=False))
    else:
        print("\n\n".join(map(judging.in_words, verdicts)))
