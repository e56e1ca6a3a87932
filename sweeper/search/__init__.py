"""Which trial next, which to stop: Optuna."""

import warnings

with warnings.catch_warnings():
    # Of tqdm, in a notebook without widgets; we draw no bar of theirs.
    warnings.filterwarnings("ignore", message="IProgress not found")
    import optuna

optuna.logging.set_verbosity(optuna.logging.WARNING)  # what it would say of each study and trial, the view shows
