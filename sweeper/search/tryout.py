"""Let sampler and pruner decide about a short study in memory, because some options fail only in use."""

from __future__ import annotations

from collections.abc import Sequence

import optuna

from sweeper.search import pruning, sampling
from sweeper.search.family import FamilyStudy
from sweeper.types import InputError

AFTER_STARTUP = 2  # trials after those that the sampler proposes without a model
MOST = 20  # trials in all


def try_out(studies: Sequence[FamilyStudy]) -> None:
    """Try each sampler and pruner once, with the space of the first study that has it. Writes nothing.

    Raises:
        InputError: One of them fails.
    """
    tried: list[object] = []
    for study in studies:
        rules = (study.plan.sampler, study.plan.pruner)
        if study.axes.searched and rules not in tried:
            tried.append(rules)
            _try(study)


def _try(study: FamilyStudy) -> None:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        short = optuna.create_study(pruner=study.pruner)
        for number in range(_trials(study)):
            key, options = sampling.KEY, study.plan.sampler
            short.sampler = study.sampling.sampler_for_ask(number)
            trial = short.ask(dict(study.axes.distributions))
            for report in range(1, len(study.terms.report_steps) + 1):
                trial.report(1.0 + number / report, report)
                if study.plan.pruner is not None:
                    key, options = pruning.KEY, study.plan.pruner
                    trial.should_prune()
            key, options = sampling.KEY, study.plan.sampler
            short.sampler = study.sampling.sampler_for_tell(number)
            short.tell(trial, float(number))
    except Exception as error:  # Optuna's or the user's code
        name = str(options.path).rpartition(".")[2]
        problem = f"fails in use ({type(error).__name__}: {str(error).rstrip('.')})"
        raise InputError(key, name, problem, f"Change the options of {key}") from error
    finally:
        optuna.logging.set_verbosity(verbosity)


def _trials(study: FamilyStudy) -> int:
    """Return how many trials to try: a few more than the sampler proposes without a model."""
    if study.sampling.is_exhaustive:
        return 1
    return min(MOST, study.sampling.n_unguided + AFTER_STARTUP)
