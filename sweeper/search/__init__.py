"""Which trial next, which to stop: Optuna."""

import warnings

with warnings.catch_warnings():
    # Of tqdm, in a notebook without widgets; we draw no bar of theirs.
    warnings.filterwarnings("ignore", message="IProgress not found")
    import optuna  # noqa: F401  # every room below begins with it
