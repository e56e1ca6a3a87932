"""The command line, `python -m sweeper [verb] ...`. Heavy imports happen in the verbs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.types import InputError, did_you_mean

if TYPE_CHECKING:
    from sweeper.spec.composing import Composed
    from sweeper.spec.sweep import SweepSpec

HELP = """\
Which learning-rate schedule, with which settings, is best for my model and my data?

usage: python -m sweeper [sweep] [key=value ...]     train a sweep, or resume it
       python -m sweeper preview [key=value ...]     draw the LRs it would try: in the terminal, as PNG and SVG
       python -m sweeper plan [key=value ...]        estimate time, disk and the smallest difference it can detect
       python -m sweeper status [NAME] [--json]      print the table of a sweep (default: the one used last)
       python -m sweeper status [NAME] --watch       follow a running sweep from another terminal
       python -m sweeper rerun [NAME] --trial cosine:17    train a trial again and compare every value
       python -m sweeper ui [NAME] [--port N]        show LR and loss traces in the MLflow UI
       python -m sweeper sync [NAME]                 send to MLflow what could not be sent before

examples:
  python -m sweeper                                  eight families and a baseline on text, 20 trials each
  python -m sweeper schedule=cosine                  one family; it joins the sweep with the same settings
  python -m sweeper 'schedule=[cosine,wsd]' search.n_trials=50
  python -m sweeper data=digits model=mlp optimizer=adamw train.epochs=20 train.steps=null
  python -m sweeper schedule.cosine.decay=0.1        fix a hyperparameter of one family ...
  python -m sweeper optimizer.peak_lr.high=1         ... or change a range for all
  python -m sweeper -m model.width=64,128            one sweep for each width

A plain value is fixed; {low: 1e-3, high: 1, log: true} or {choice: [0, 0.1]} is searched.
  --cfg job          print the configuration and do nothing
  --config-dir DIR   a folder with your own schedule/, model/, data/ ... files
  -m, --multirun     every combination of comma-separated values
  --hydra-help       the other flags of Hydra
"""

SWEEPS = Path("sweeps")
WRONG_INPUT = 2


def main() -> int:
    """Run a command. Returns the exit code: 0, 1 for a failure, 2 for wrong input, 128 + n if signal n stopped it."""
    words = sys.argv[1:]
    verb = words.pop(0) if words and not words[0].startswith(("-", "~")) and "=" not in words[0] else "sweep"
    try:
        if verb not in VERBS:
            raise InputError("verb", verb, "no such verb", did_you_mean(verb, VERBS))
        if verb == "sweep" and any(word in ("-h", "--help") for word in words):
            print(HELP, end="")
            return 0
        code = VERBS[verb](words)
        sys.stdout.flush()
        return code
    except InputError as error:
        print(f"sweeper: {error}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        print("sweeper: stopped. What was committed is kept, and the same command resumes.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        from sweeper.files import explain, is_about_storage

        if not is_about_storage(error):
            raise
        with suppress(OSError):  # the disk may be that of the output
            print(f"sweeper: {explain(error)}", file=sys.stderr, flush=True)
        return 1


# --- verbs of a configuration: Hydra -----------------------------------------------------------------


def sweep(words: Sequence[str]) -> int:
    """Train a sweep, or with -m several."""
    return _each(words, _sweep)


def preview(words: Sequence[str]) -> int:
    """Draw the LRs that a sweep would try. Trains nothing, and writes only the pictures."""
    import argparse

    from sweeper.forecast import gallery

    parser = argparse.ArgumentParser(
        prog="python -m sweeper preview",
        usage="%(prog)s [key=value ...] [--out FOLDER|FILE] [--json]",
        description="Draw the LRs that a sweep would try: random candidates of each family, and each searched "
        "hyperparameter at the ends of its range with the others in the middle of theirs. A table lists the "
        "candidates. key=value as for a sweep (all families: schedule=all). Trains nothing.",
        allow_abbrev=False,
    )
    where = "a folder for preview.png and preview.svg (default: this one), or one file that ends with .png or .svg"
    parser.add_argument("--out", metavar="FOLDER|FILE", help=where)
    parser.add_argument("--json", action="store_true", help="the table for programs")
    given, rest = parser.parse_known_args(words)
    if {"-m", "--multirun"} & set(rest):
        raise InputError("--multirun", None, "one picture shows one sweep", "Preview them one by one")
    paths = gallery.picture_paths(given.out)
    return _each(rest, lambda config: _preview(config, paths, given.json))


def plan(words: Sequence[str]) -> int:
    """Estimate what a sweep costs and can detect. Trains for a few seconds, writes nothing."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m sweeper plan",
        usage="%(prog)s [key=value ...] [--seeds N] [--spread X] [--json]",
        description="Estimate what a sweep costs and can detect: trials, updates, time (from a few seconds of "
        "training), disk, and the smallest difference between winners on fresh seeds. "
        "key=value as for a sweep. Writes nothing.",
        allow_abbrev=False,
    )
    parser.add_argument("--seeds", type=int, default=5, help="fresh seeds on which winners are compared (default: 5)")
    parser.add_argument("--spread", type=float, help="standard deviation of one training's objective over seeds")
    parser.add_argument("--json", action="store_true", help="the estimate for programs")
    given, rest = parser.parse_known_args(words)
    if given.seeds < 2:
        raise InputError("--seeds", given.seeds, "too few for a comparison", "Give 2 or more")
    if given.spread is not None and not given.spread > 0:
        raise InputError("--spread", given.spread, "not a positive number", "Give one, or leave it out")
    return _each(rest, lambda config: _plan(config, given))


def _each(words: Sequence[str], verb: Callable[[Any], int]) -> int:
    """Compose the configuration, or with -m several, and run the verb with each. Returns the worst exit code."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra passes errors on instead of printing them
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException, OverrideParseException

    from sweeper.spec import composing, config_files, overrides

    every = config_files.families([config_files.folder(), *overrides.config_folders(words)])
    ConfigStore.instance().store(group="schedule", name="all", node={"defaults": every})
    codes: list[int] = []

    def job(config: Any) -> None:
        codes.append(_run_one(config, verb))
        if codes[-1] > 128:
            raise SystemExit(codes[-1])

    sys.argv = [sys.argv[0], *overrides.to_hydra(words, config_files.groups())]
    try:
        hydra.main(version_base="1.3", config_path="pkg://sweeper.conf", config_name="config")(job)()
    except SystemExit as exit:
        return int(exit.code or 0)
    except OverrideParseException as error:
        raise overrides.not_understood(words, str(error)) from error
    except HydraException as error:
        raise composing.explain(error) from error
    return max(codes, default=0)


def _run_one(config: Any, verb: Callable[[Any], int]) -> int:
    """Run the verb with one configuration. Its error is printed here, so that a multirun continues."""
    try:
        return verb(config)
    except InputError as error:
        print(f"sweeper: {error}", file=sys.stderr)
        return WRONG_INPUT


def _sweep(config: Any) -> int:
    """Train what is not trained yet, and print the table."""
    from sweeper.run import sweeping
    from sweeper.search.study import AllTrialsFailedError
    from sweeper.views import conclusion

    spec = _spec(config)
    try:
        outcome = sweeping.sweep(spec, root=SWEEPS, conclude=conclusion.conclude)
    except AllTrialsFailedError as error:
        print(f"sweeper: {error}", file=sys.stderr)
        return 1
    conclusion.show(outcome)
    return 0 if outcome.signal is None else 128 + outcome.signal


def _preview(config: Any, paths: Sequence[Path], for_programs: bool) -> int:
    """Draw candidates of each family and show them. Data are loaded only if epochs count."""
    from functools import cache

    from sweeper.forecast import gallery
    from sweeper.forecast.preview import preview_family
    from sweeper.spec.composing import build_subject
    from sweeper.spec.families import parse_families
    from sweeper.spec.horizon import horizon

    composed = _finish(config)
    nodes = composed.nodes
    families = parse_families(nodes["schedule"])
    size = cache(lambda: build_subject(composed.nodes).task.size("train", 0))
    steps, epoch = horizon(nodes["train"], nodes["schedule_unit"], size)
    previews = [preview_family(family, steps, epoch=epoch, seed=nodes["search"]["seed"]) for family in families]
    gallery.show(previews, paths, for_programs=for_programs)
    return 0


def _plan(config: Any, given: Any) -> int:
    """Train a little, and print the estimate."""
    from sweeper.forecast import estimate, outlook

    spec = _spec(config)
    metric = spec.objective.metric
    result = estimate.estimate(spec, estimate.Comparison(given.seeds, given.spread), root=SWEEPS)
    if given.json:
        print(json.dumps(outlook.as_json(result, metric), indent=2, allow_nan=False))
    else:
        outlook.show(result, metric)
    return 0


def _finish(config: Any) -> Composed:
    """Resolve and check what Hydra composed for this command."""
    from hydra.core.hydra_config import HydraConfig

    from sweeper.spec.composing import finish

    command = HydraConfig.get()
    return finish(config, command.runtime.choices, command.overrides.task)


def _spec(config: Any) -> SweepSpec:
    """Return the checked sweep of a configuration."""
    from sweeper.spec.composing import build_subject
    from sweeper.spec.parse import parse

    composed = _finish(config)
    return parse(composed.nodes, build_subject(composed.nodes, composed.label))


# --- the other verbs ---------------------------------------------------------------------------------


def status(words: Sequence[str]) -> int:
    """Print the table of a sweep, running or not, or follow it. Reads only."""
    from sweeper.results.stored import StoredSweep
    from sweeper.views import conclusion, watch

    flags = {"--json": "the table for programs", "--watch": "follow it until it is finished, or Ctrl-C"}
    asked = _parse(
        "status",
        "Print the table of a sweep.",
        words,
        *((flag, {"action": "store_true", "help": about}) for flag, about in flags.items()),
    )
    if asked.watch and asked.json:
        raise InputError("--watch", None, "cannot be combined with --json", "Leave one of them out")
    if asked.watch:
        watch.watch(_home(asked.name))
        return 0
    sweep = StoredSweep(_home(asked.name))
    (conclusion.print_json if asked.json else conclusion.print_table)(sweep)
    return 0


def rerun(words: Sequence[str]) -> int:
    """Train a stored trial again and compare every value. Returns 1 if one differs."""
    from sweeper.results.stored import StoredSweep
    from sweeper.run import rerun
    from sweeper.spec.composing import build_subject

    asked = _parse(
        "rerun",
        "Train a trial again, on its own, and compare its traces and metrics, bit for bit.",
        words,
        ("--trial", {"required": True, "metavar": "cosine:17", "help": "family (or study) and number"}),
        (
            "--weights",
            {"type": Path, "metavar": "FILE", "help": "write the final weights there"},
        ),
    )
    sweep = StoredSweep(_home(asked.name))
    sweep.record(asked.trial)  # refuses a wrong name before the data are loaded
    result = rerun.rerun_trial(sweep, asked.trial, build_subject(rerun.subject_nodes(sweep)), asked.weights)
    print("\n".join(rerun.report_lines(result)))
    return 0 if result.same else 1


def ui(words: Sequence[str]) -> int:
    """Serve the MLflow UI and print the address of the sweep's page."""
    from sweeper.tracking.mlflow import view

    asked = _parse("ui", "Open a sweep in the MLflow UI.", words, ("--port", {"type": int, "default": 5000}))
    return view.ui(_home(asked.name).spool, asked.port)


def sync(words: Sequence[str]) -> int:
    """Send what MLflow does not have yet."""
    from sweeper.results.stored import StoredSweep
    from sweeper.tracking.mlflow import sender
    from sweeper.tracking.spool import find_loss, publish_again

    asked = _parse("sync", "Send to MLflow what could not be sent before.", words)
    sweep = StoredSweep(_home(asked.name))
    publish_again(sweep.home.spool, sweep.round)
    code = sender.sync(sweep.home.spool)
    if loss := find_loss(sweep.home.spool, sweep.round):
        print(loss.text, file=sys.stderr)
    return code


def _parse(verb: str, about: str, words: Sequence[str], *flags: tuple[str, dict[str, Any]]) -> Any:
    import argparse

    parser = argparse.ArgumentParser(prog=f"python -m sweeper {verb}", description=about)
    parser.add_argument("name", nargs="?", help="the sweep's name or folder (default: the one used last)")
    for flag, options in flags:
        parser.add_argument(flag, **options)
    return parser.parse_args(words)


def _home(name: str | None) -> Any:
    from sweeper.spec.question import find

    return find(SWEEPS, name)


VERBS = {"sweep": sweep, "preview": preview, "plan": plan, "status": status, "rerun": rerun, "ui": ui, "sync": sync}

if __name__ == "__main__":
    sys.exit(main())
