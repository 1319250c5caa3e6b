"""The claims ledger: what the paper claims, the quantity that decides it, and the rule with its threshold.

:mod:`companion.quantities` computes the quantities, :mod:`companion.claims` the verdicts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from companion.cases import Case
from companion.quantities import (
    A_LOT,
    ALIKE,
    LITTLE,
    MOST,
    RELIABLE,
    SHORT,
    WELL,
    controls_keep_it,
    depends_on_size,
    no_block_takes_most,
    not_necessary,
    not_sufficient,
    order_matters,
    resembles_probing,
    worth_nothing_when_scarce,
)
from companion.scores import DELTA, TaskTrials
from companion.stats import ALPHA, FEWEST


@dataclass(frozen=True)
class Claim:
    """One line of the ledger. ``cases`` computes ``quantity`` for every comparison in a task; ``over`` says whether
    "every" case or "some" case must hold; ``needs`` are the experiments without which there is no verdict;
    ``notebooks`` are the pages that show the trials, ``figure`` the paper's figure it answers to."""

    id: str
    statement: str
    quantity: str
    rule: str
    over: str
    needs: tuple[str, ...]
    cases: Callable[[TaskTrials], list[Case]]
    notebooks: tuple[str, ...]
    figure: str


# Which rows of the table are an experiment's, wherever else the same trials are listed.
TRIALS_OF = {
    "progressive": "kind == 'suffix'",
    "data_scaling": "kind in ['suffix', 'all']",
    "probing": "kind == 'probe'",
    "localized": "experiment == 'localized' and kind not in ['intact', 'all']",
    "permutation": "kind == 'permuted'",
    "learning_rate": "random_rate > 1",
    "layernorm": "keep_layernorm",
}


def percent(share: float) -> str:
    """A share in percent, to three digits."""
    return f"{100 * share:.3g} %"


SMALL, LARGE = (f"{times * DELTA['accuracy']:g} (Matthews: {times * DELTA['matthews']:g})" for times in (1.0, A_LOT))
PAIRED = "paired by seed, at the largest train size that these trials have"
PROBES = " (logistic probes of the first token, at the largest train size they have)"
GAINED = f"A task where no layer's mean probe score is {SMALL} above that on the embeddings is left open"
AT_STAKE = f"all layers together are not shown to be worth more than {SMALL}"

CLAIMS = (
    Claim(
        id="C1",
        statement="Layers whose output probes well are not necessary: redrawing all of them can cost little.",
        quantity=f"intact score minus the score with every layer redrawn from the first that probes well, {PAIRED}; "
        f"a layer probes well if its probe has {percent(WELL)} of the best gain over the embeddings{PROBES}.",
        rule=f"some task: the interval's upper end is below {SMALL}, or below {percent(LITTLE)} of what all layers "
        f"are worth, and all layers are worth more than {SMALL}. Where the probes' seeds leave open which layer is "
        "the first that probes well, this must hold for every layer that may be, and so must the opposite, to speak "
        f"against the claim. {GAINED}.",
        over="some",
        needs=("probing", "progressive"),
        cases=not_necessary,
        notebooks=("probing", "data_scaling"),
        figure="1",
    ),
    Claim(
        id="C2",
        statement="Layers whose output probes well are not sufficient: kept alone, they do not give the intact score.",
        quantity=f"intact score minus the score with only a short block around the best-probing layer kept, {PAIRED}"
        f"{PROBES}.",
        rule=f"every task and every such block of the widths run: the interval's lower end is above {SMALL}. {GAINED}, "
        f"and one where {AT_STAKE}.",
        over="every",
        needs=("probing", "localized"),
        cases=not_sufficient,
        notebooks=("localized", "probing"),
        figure="2",
    ),
    Claim(
        id="C3",
        statement="What pretrained layers are worth depends on how much data there is for fine-tuning.",
        quantity="worth of all layers (intact minus all redrawn) at the largest train size minus at the smallest, "
        "paired by seed.",
        rule=f"every task: the interval lies above {SMALL}, or below minus that. Not supported only if no two of the "
        "sizes run differ by more.",
        over="every",
        needs=("data_scaling",),
        cases=depends_on_size,
        notebooks=("data_scaling",),
        figure="1",
    ),
    Claim(
        id="C4",
        statement="Layers worth a lot with plenty of data can be worth next to nothing when data is scarce.",
        quantity="worth of the layers above the first k, 0 < k < L (intact minus those redrawn), at the largest and at "
        "the smallest train size, paired by seed.",
        rule=f"some task and k: at the largest size the interval's lower end is above {LARGE}, and at the "
        f"smallest the interval lies within ±{SMALL}, and no more than half of the redrawn or of the intact models "
        "there diverged. Not supported only if every k was run, and it holds of no two of the sizes.",
        over="some",
        needs=("data_scaling",),
        cases=worth_nothing_when_scarce,
        notebooks=("data_scaling",),
        figure="1",
    ),
    Claim(
        id="C5",
        statement="The fewer examples there are, the more the transfer curve looks like the probing curve.",
        quantity="Spearman's correlation of the mean transfer curve with the probing curve at the smallest train size "
        f"minus at the largest, bootstrap over the seeds of fine-tuning; the probing curve is the mean of its own "
        f"seeds, whose noise is not counted{PROBES}.",
        rule=f"every task: the interval's lower end is above {ALIKE:g}, more than {percent(RELIABLE)} of the variance "
        "of the large size's points is not noise (analysis of variance, seeds as blocks), and no two of them are at "
        f"the best score there is. Not supported if the interval is below -{ALIKE:g} and the small size's curve is as "
        f"reliable. {GAINED}.",
        over="every",
        needs=("probing", "progressive"),
        cases=resembles_probing,
        notebooks=("probing", "data_scaling"),
        figure="1",
    ),
    Claim(
        id="C6",
        statement="No short block of layers takes most of the benefit with it, and what a block is worth depends on "
        "where it is.",
        quantity=f"cost of redrawing one block of at most {percent(SHORT)} of the layers, as a share of the worth of "
        f"all layers, {PAIRED}; and an analysis of variance over positions. A block that costs "
        f"more than {percent(MOST)} is hard to do without; whether it carries the benefit alone, only keeping it alone "
        "can tell.",
        rule=f"every task and every block of the widths run: the interval's upper end is below {percent(MOST)}, and "
        f"in every task positions differ with p < {ALPHA:.2g} divided by the number of tasks (and widths); how tasks "
        f"differ is shown, not judged. A task where {AT_STAKE} is left open.",
        over="every",
        needs=("localized",),
        cases=no_block_takes_most,
        notebooks=("localized",),
        figure="2",
    ),
    Claim(
        id="C7",
        statement="The order of pretrained layers matters: permuting them costs score, some orders more than others.",
        quantity="intact score, mean over seeds, minus the permuted models', mean over permutations; the same within "
        f"each seed; and an analysis of variance over permutations, each with at least {FEWEST} seeds.",
        rule=f"every task: both intervals' lower ends are above {SMALL}, and permutations differ "
        f"with p < {ALPHA:.2g} divided by the number of tasks.",
        over="every",
        needs=("permutation",),
        cases=order_matters,
        notebooks=("permutation",),
        figure="3",
    ),
    Claim(
        id="C8",
        statement="A benefit of pretrained layers remains if new layers learn faster, or keep their LayerNorm.",
        quantity=f"intact score minus the control's at the fewest layers kept, {PAIRED}.",
        rule=f"every task and both controls: the interval's lower end is above {SMALL}, as it is without the control, "
        "and no more than half of the control's trials diverged.",
        over="every",
        needs=("learning_rate", "layernorm"),
        cases=controls_keep_it,
        notebooks=("learning_rate", "layernorm"),
        figure="6 and 7",
    ),
)
