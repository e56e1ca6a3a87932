"""Decide which trial is next and which to prune, with Optuna."""

import warnings

with warnings.catch_warnings():
    # tqdm warns so in a notebook without widgets, but none of its bars is used.
    warnings.filterwarnings("ignore", message="IProgress not found")
    import optuna

optuna.logging.set_verbosity(optuna.logging.WARNING)  # the view shows each study and trial
