"""The command line, `python -m sweeper [verb] ...`. Heavy imports happen in the verbs."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from sweeper.types import InputError

if TYPE_CHECKING:
    from sweeper.results.stored import StoredSweep
    from sweeper.run.confirm_spec import ConfirmSpec
    from sweeper.run.sweeping import Outcome
    from sweeper.spec.composing import Composed
    from sweeper.spec.sweep import SweepSpec

HELP = """\
Which learning-rate schedule, with which settings, is best for my model and my data?

usage: python -m sweeper [sweep] [key=value ...]     train a sweep, or resume it
       python -m sweeper preview [key=value ...]     draw the LRs it would try: in the terminal, as PNG and SVG
       python -m sweeper plan [key=value ...]        estimate time, disk and the smallest difference it can detect
       python -m sweeper range [key=value ...]       find the LRs to search, with an LR range test
       python -m sweeper confirm [NAME] [confirm.KEY=VALUE ...]   train the best on fresh seeds, for a verdict
       python -m sweeper final [NAME] [--trial cosine:17]   train the winner on train + valid, judge it on test
       python -m sweeper retune --from OLD [key=value ...]  tune for other data or another model, and compare
       python -m sweeper status [NAME] [--columns all | --json]   print what a sweep found (default: the last one)
       python -m sweeper status [NAME] --watch       follow a running sweep from another terminal
       python -m sweeper report [NAME]               write report.html, one page to read and to show to others
       python -m sweeper rerun [NAME] --trial cosine:17    train a trial again and compare every value
       python -m sweeper retry [NAME]                train the trials that failed again, once the cause is fixed
       python -m sweeper export [NAME] --to TARGET   print the schedule for your own code: torch, keras, optax, ...
       python -m sweeper ui [NAME] [--port N]        show LR and loss traces in the MLflow UI
       python -m sweeper sync [NAME]                 send to MLflow what could not be sent before
       python -m sweeper unlock [NAME]               go on with a sweep whose other machine is surely dead

examples:
  python -m sweeper                                  eight families and a baseline on text, 20 trials each
  python -m sweeper schedule=cosine                  one family; it joins the sweep with the same settings
  python -m sweeper 'schedule=[cosine,wsd]' search.n_trials=50
  python -m sweeper data=digits model=mlp optimizer=adamw train.epochs=20
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
PRINTING = ("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info")  # Hydra's, which train nothing


def main() -> int:
    """Run a command. Returns the exit code: 0, 1 for a failure, 2 for wrong input, 128 + n if signal n stopped it."""
    words = sys.argv[1:]
    verb = words.pop(0) if words and not words[0].startswith(("-", "~", "+")) and "=" not in words[0] else "sweep"
    try:
        if verb not in VERBS:
            raise InputError("verb", verb, "no such verb", _similar_verb(verb))
        if verb == "sweep" and any(word in ("-h", "--help") for word in words):
            print(HELP, end="")
            return 0
        with _exit_on_signals():
            code = VERBS[verb](words)
            sys.stdout.flush()
            return code
    except InputError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        print("sweeper: stopped. What was committed is kept, and the same command resumes.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _give_up(error)


def _refuse(error: InputError) -> int:
    """Print what is wrong, without the secrets of an address that somebody typed. Returns the exit code."""
    from sweeper.tracking.redaction import redact

    print(f"sweeper: {redact(str(error))}", file=sys.stderr)
    return WRONG_INPUT


def _give_up(error: OSError) -> int:
    """Print what a full or read-only disk stopped, and return the exit code. Other errors are raised again."""
    from sweeper.files import explain, is_about_storage
    from sweeper.tracking.redaction import redact

    if not is_about_storage(error):
        raise error
    with suppress(OSError):  # the disk may be that of the output
        print(f"sweeper: {redact(explain(error))}", file=sys.stderr, flush=True)
    return 1


def _similar_verb(word: str) -> str:
    from sweeper.spec.aliases import similar

    return similar("verb", word, VERBS)


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does: what it started ends too. Under nohup SIGHUP stays off."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    is_main = threading.current_thread() is threading.main_thread()  # others cannot set handlers
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP) if is_main}
    caught = [number for number, handler in before.items() if handler == signal.SIG_DFL]
    for number in caught:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)


# --- verbs of a configuration: Hydra -----------------------------------------------------------------


def sweep(words: Sequence[str]) -> int:
    """Train a sweep, or with -m several."""
    return _each(words, _sweep)


def preview(words: Sequence[str]) -> int:
    """Draw the LRs that a sweep would try. Trains nothing, and writes only the pictures."""
    import argparse

    from sweeper.views.figures import picture_paths

    parser = argparse.ArgumentParser(
        prog="python -m sweeper preview",
        usage="%(prog)s [key=value ...] [--out FOLDER|FILE] [--json]",
        description="Draw the LRs that a sweep would try: random candidates of each family, and each searched "
        "hyperparameter at the ends of its range with the others in the middle of theirs. A table lists the "
        "candidates. key=value as for a sweep (all families: schedule=all). Trains nothing.",
        allow_abbrev=False,
    )
    where = "a folder for preview.png and preview.svg (default: this one), or one file ending with .png, .svg or .pdf"
    parser.add_argument("--out", metavar="FOLDER|FILE", help=where)
    parser.add_argument("--json", action="store_true", help="the table for programs")
    given, rest = parser.parse_known_args(words)
    if {"-m", "--multirun"} & set(rest):
        raise InputError("--multirun", None, "one picture shows one sweep", "Preview them one by one")
    paths = picture_paths(given.out, "preview")
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


def find_lr(words: Sequence[str]) -> int:
    """Find the LRs to search with an LR range test. Writes only the pictures."""
    import argparse

    from sweeper.views.figures import picture_paths

    parser = argparse.ArgumentParser(
        prog="python -m sweeper range",
        usage="%(prog)s [key=value ...] [--seeds N] [--updates N] [--low LR] [--high LR]\n"
        "                               [--out FOLDER|FILE] [--json]",
        description="Find the LRs to search: the LR grows by the same factor at every update, until the loss "
        "explodes, from the untrained model and again after a warmup, on several seeds. key=value as for a sweep; "
        "schedules do not matter. Trains for some hundred updates, and writes only the pictures.",
        allow_abbrev=False,
    )
    parser.add_argument("--seeds", type=int, help="ramps, side by side (default: 3)")
    parser.add_argument("--updates", type=int, help="of a ramp without warmup (default: 100)")
    parser.add_argument("--low", type=float, metavar="LR", help="of the first update (default: default_lr / 10000)")
    parser.add_argument("--high", type=float, metavar="LR", help="of the last update (default: default_lr x 100000)")
    where = "a folder for range.png and range.svg (default: this one), or one file that ends with .png or .svg"
    parser.add_argument("--out", metavar="FOLDER|FILE", help=where)
    parser.add_argument("--json", action="store_true", help="the table for programs")
    given, rest = parser.parse_known_args(words)
    if {"-m", "--multirun"} & set(rest):
        raise InputError("--multirun", None, "one picture shows one model", "Test them one by one")
    paths = picture_paths(given.out, "range")
    return _each(rest, lambda config: _find_lr(config, given, paths))


def _each(words: Sequence[str], verb: Callable[[Any], int]) -> int:
    """Compose the configuration, or with -m several, and run the verb with each. Returns the worst exit code."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra passes errors on instead of printing them
    if not set(PRINTING) & set(words):
        _announce()
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException, OverrideParseException

    from sweeper.spec import composing, config_files, overrides

    folders = [config_files.user_folder("--config-dir", path) for path in overrides.config_folders(words)]
    every = config_files.families([config_files.folder(), *folders])
    ConfigStore.instance().store(group="schedule", name="all", node={"defaults": every})
    codes: list[int] = []
    started: list[bool] = []  # configurations that Hydra composed

    def job(config: Any) -> None:
        started.append(True)
        codes.append(_run_one(config, verb))
        if codes[-1] > 128:
            raise SystemExit(codes[-1])

    try:
        with _private(words) as given:
            sys.argv = [sys.argv[0], *overrides.to_hydra(given, config_files.groups())]
            hydra.main(version_base="1.3", config_path="pkg://sweeper.conf", config_name="config")(job)()
    except SystemExit as exit:
        return int(exit.code or 0)
    except OverrideParseException as error:
        raise overrides.not_understood(words, str(error)) from error
    except Exception as error:
        if started and not isinstance(error, HydraException):
            raise
        raise composing.explain(error, folders) from error  # Hydra raises other kinds, too
    return max(codes, default=0)


@contextmanager
def _private(words: Sequence[str]) -> Iterator[Sequence[str]]:
    """Let Hydra neither print secrets (--cfg) nor leave them in the working folder (-m). Yields the words for it."""
    from sweeper import temporary
    from sweeper.tracking.redaction import RedactedStream

    with ExitStack() as stack:
        if any(word.startswith(("--cfg", "-c", "--info")) for word in words):
            stack.enter_context(redirect_stdout(RedactedStream(sys.stdout)))
        if {"-m", "--multirun"} & set(words):  # Hydra stores the whole configuration in the folder of a multirun
            folder = temporary.make_folder()
            stack.callback(temporary.remove, folder)
            quoted = str(folder).replace("'", r"\'")
            words = [f"hydra.sweep.dir='{quoted}'", *words]
        yield words


def _announce() -> None:
    """Say on a terminal what is done first: PyTorch alone takes seconds to load. A log needs no such line."""
    if sys.stderr.isatty():
        print("Loading libraries, data and model ...", file=sys.stderr, flush=True)


def _run_one(config: Any, verb: Callable[[Any], int]) -> int:
    """Run the verb with one configuration. Its error is printed here, so that a multirun continues."""
    try:
        return verb(config)
    except InputError as error:
        return _refuse(error)
    except OSError as error:
        return _give_up(error)


def _sweep(config: Any) -> int:
    """Train what is not trained yet, and print the table."""
    from sweeper.run import sweeping
    from sweeper.views import conclusion

    spec = _spec(config)
    return _train(lambda: sweeping.sweep(spec, root=SWEEPS, conclude=conclusion.conclude))


def _train(sweep: Callable[[], Outcome]) -> int:
    """Train a sweep, and print the table."""
    from sweeper.views import conclusion

    code, outcome = _trained(sweep)
    if outcome is not None:
        conclusion.show(outcome)
    return code


def _trained(sweep: Callable[[], Outcome]) -> tuple[int, Outcome | None]:
    """Train, and return the exit code with how it ended; None if everything failed."""
    from sweeper.search.study import AllTrialsFailedError

    try:
        outcome = sweep()
    except AllTrialsFailedError as error:
        print(f"sweeper: {error}", file=sys.stderr)
        return 1, None
    return (0 if outcome.signal is None else 128 + outcome.signal), outcome


def _preview(config: Any, paths: Sequence[Path], for_programs: bool) -> int:
    """Draw candidates of each family and show them. Data are loaded only if epochs count."""
    from functools import cache

    from sweeper.forecast import gallery
    from sweeper.forecast.preview import preview_family
    from sweeper.run import auto_range
    from sweeper.schedules import fit_to_run
    from sweeper.spec.composing import build_subject
    from sweeper.spec.families import parse_families
    from sweeper.spec.horizon import horizon

    composed = _finish(config)
    nodes = composed.nodes
    auto_range.refuse_auto(composed)
    families = parse_families(nodes["schedule"])
    size = cache(lambda: build_subject(composed.nodes).task.size("train", 0))
    steps, epoch = horizon(nodes["train"], nodes["schedule_unit"], size)
    fitted = [fit_to_run(family, steps, epoch) for family in families]
    previews = [preview_family(family, steps, epoch=epoch, seed=nodes["search"]["seed"]) for family in fitted]
    gallery.show(previews, paths, for_programs=for_programs)
    return 0


def _plan(config: Any, given: Any) -> int:
    """Train a little, and print the estimate."""
    from sweeper.forecast import estimate, outlook

    spec = _spec(config, may_train=False)
    metric = spec.objective.metric
    result = estimate.estimate(spec, estimate.Comparison(given.seeds, given.spread), root=SWEEPS)
    if given.json:
        print(json.dumps(outlook.as_json(result, metric), indent=2, allow_nan=False))
    else:
        outlook.show(result, metric)
    return 0


def _find_lr(config: Any, given: Any, paths: Sequence[Path]) -> int:
    """Train the ramps, and show what they say."""
    from sweeper.run.ramping import find_lr
    from sweeper.spec.composing import build_subject
    from sweeper.spec.ramp_spec import parse_ramp
    from sweeper.views import lr_range

    composed = _finish(config)
    options = {name: getattr(given, name) for name in ("seeds", "updates", "low", "high")}
    ramp = parse_ramp(options, composed, prefix="--")
    test = find_lr(composed, build_subject(composed.nodes, composed.label), ramp)
    lr_range.show(test, paths, for_programs=given.json)
    return 0


def _finish(config: Any) -> Composed:
    """Resolve and check what Hydra composed for this command."""
    from hydra.core.hydra_config import HydraConfig

    from sweeper.spec.composing import finish

    command = HydraConfig.get()
    return finish(config, command.runtime.choices, command.overrides.task)


def _spec(config: Any, *, may_train: bool = True) -> SweepSpec:
    """Return the checked sweep of a configuration. may_train: whether to find the LRs of `optimizer.peak_lr=auto`."""
    from sweeper.run import auto_range
    from sweeper.spec.composing import build_subject
    from sweeper.spec.parse import parse

    composed = _finish(config)
    subject = build_subject(composed.nodes, composed.label)
    return parse(auto_range.resolve(composed, subject, SWEEPS, may_train=may_train).nodes, subject)


# --- the other verbs ---------------------------------------------------------------------------------


def status(words: Sequence[str]) -> int:
    """Print the answer of a sweep, running or not, or follow it. Reads only."""
    from sweeper.results.stored import StoredSweep

    flags = {"--json": "every number, for programs", "--watch": "follow it until it is finished, or Ctrl-C"}
    asked = _parse(
        "status",
        "Print what a sweep found: the verdict, the settings to use, and a line for each family.",
        words,
        *((flag, {"action": "store_true", "help": about}) for flag, about in flags.items()),
        ("--columns", {"metavar": "all", "help": "all: also the tables with every column, and what they mean"}),
    )
    if asked.columns not in (None, "all"):
        raise InputError("--columns", asked.columns, "no such choice", "Write --columns all, or leave it out")
    given = [flag for flag in ("--watch", "--columns", "--json") if getattr(asked, flag[2:])]
    if len(given) > 1:
        raise InputError(given[0], None, f"cannot be combined with {given[1]}", "Leave one of them out")
    if asked.watch:
        from sweeper.views import watch

        watch.watch(_home(asked.name))
        return 0
    from sweeper.views import answer, conclusion

    sweep = StoredSweep(_home(asked.name))
    (conclusion.print_json if asked.json else conclusion.print_all if asked.columns else answer.show)(sweep)
    return 0


def report(words: Sequence[str]) -> int:
    """Write the report of a sweep and its figures, running or not."""
    about = (
        "Write report.html in the sweep's folder, one page to read and to show to others, and figures/*.svg and *.pdf."
    )
    home = _home(_parse("report", about, words).name)
    from sweeper.results.stored import StoredSweep
    from sweeper.views.report import page

    sweep = StoredSweep(home)
    path = page.write_with_figures(sweep)
    taken = page.shown_trial(sweep)
    print(f"Report:   {path} ({math.ceil(path.stat().st_size / 1000)} kB)")
    print(f"Figures:  {path.parent / 'figures'}/*.svg, *.pdf")
    print(f"Its settings are those of {taken}." if taken else "No trial is complete yet.")
    return 0


def confirm(words: Sequence[str]) -> int:
    """Train the best trials of each family on fresh seeds, and print the verdict."""
    from sweeper.run.confirm_spec import parse_words

    about = (
        "Train the best trials of each family on fresh seeds, and say which is best and how sure that is. "
        "confirm.KEY=VALUE: seed, top, choose, looks, families, budget, alpha, allow_divergence, margin, vary, "
        "searches, yes, dry, exit "
        "(docs/guide/trust.md)."
    )
    options = [word for word in words if "=" in word]
    flag = ("--json", {"action": "store_true", "help": "the verdict for programs"})
    asked = _parse("confirm", about, [word for word in words if "=" not in word], flag)
    spec = parse_words(options)
    home = _home(asked.name)
    _announce()
    from sweeper.results.stored import StoredSweep
    from sweeper.results.words import exit_code
    from sweeper.run import confirm_plan
    from sweeper.run.confirming import confirm
    from sweeper.run.restoring import subject_nodes
    from sweeper.spec.composing import build_subject
    from sweeper.text.columns import write_text
    from sweeper.tracking.mlflow.tracker import MLflow
    from sweeper.views import answer, conclusion, confirmed

    sweep = StoredSweep(home)
    if spec.searches is not None:
        return _search_again(sweep, spec, for_programs=asked.json)
    with redirect_stdout(sys.stderr) if asked.json else nullcontext():
        planned = confirm_plan.plan(sweep, spec)
        write_text(confirmed.cost_lines(confirm_plan.cost(sweep, planned, spec), sorted(planned.candidates)))
        if spec.dry:
            return 0
        subject = build_subject(subject_nodes(sweep, "confirm(task)"))
        tracker = MLflow.stored(home.spool)
        code, _ = _trained(lambda: confirm(sweep, subject, tracker, spec, conclusion.conclude))
    verdict = sweep.refresh().verdict_of(spec.seed)
    if verdict is None:
        return code
    if asked.json:
        print(json.dumps(verdict, indent=2, allow_nan=False))
    else:
        answer.show(sweep, verdict)
    return code or (exit_code(verdict) if spec.exit == "verdict" else 0)


def final(words: Sequence[str]) -> int:
    """Train the chosen settings on train + valid, with several seeds, and judge the models on the test part."""
    from sweeper.run.final_spec import parse_words

    about = (
        "Train the settings of one trial on train + valid with several seeds, judge the models on the test part, and "
        "log and register them in MLflow. Without --trial: the winner on fresh seeds, else their leader, else the "
        "lowest complete trial of the search. final.KEY=VALUE: seeds (docs/guide/final.md)."
    )
    asked = _parse(
        "final",
        about,
        [word for word in words if not word.startswith("final.")],
        ("--trial", {"metavar": "cosine:17", "help": "family (or study) and number"}),
        ("--json", {"action": "store_true", "help": "what was found, for programs"}),
    )
    spec = parse_words([word for word in words if word.startswith("final.")])
    home = _home(asked.name)
    _announce()
    from sweeper.results.stored import StoredSweep
    from sweeper.run import finalizing
    from sweeper.run.restoring import subject_nodes
    from sweeper.spec.composing import build_subject
    from sweeper.tracking.mlflow.tracker import MLflow
    from sweeper.views import conclusion, final_models

    sweep = StoredSweep(home)
    with redirect_stdout(sys.stderr) if asked.json else nullcontext():
        planned = finalizing.plan(sweep, spec, asked.trial)
        subject = build_subject(subject_nodes(sweep, "final(task)"))
        print("\n".join(final_models.plan_lines(sweep, planned, subject.task)), flush=True)
        tracker = MLflow.stored(home.spool)
        code, outcome = _trained(lambda: finalizing.finalize(sweep, subject, tracker, planned, conclusion.conclude))
        found = final_models.conclude(sweep.refresh(), planned, subject.task)
        conclusion.write_report(sweep.refresh())
        if found is None and outcome is not None and outcome.stopped is not None:
            print(f"Stopped ({outcome.stopped}). Nothing is lost: the same command resumes.", flush=True)
    if found is None:
        return code
    if asked.json:
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        final_models.show(found, home)
    return code


def retune(words: Sequence[str]) -> int:
    """Tune again for another question, with the winner of an earlier sweep as its first trial, and compare the two."""
    import argparse

    from sweeper.run.confirm_spec import parse_words
    from sweeper.spec.inherited import typed_keys

    parser = argparse.ArgumentParser(
        prog="python -m sweeper retune",
        usage="%(prog)s --from OLD [key=value ...] [confirm.KEY=VALUE ...] [--json]",
        description="Start a sweep that is like OLD except for key=value, with the settings that won there as its "
        "first trial; confirm it on fresh seeds; and say whether the old settings would have done "
        "(docs/guide/retune.md).",
        allow_abbrev=False,
    )
    parser.add_argument("--from", dest="old", required=True, metavar="OLD", help="name or folder of the earlier sweep")
    parser.add_argument("--json", action="store_true", help="what was found, for programs")
    given, rest = parser.parse_known_args(words)
    if {"-m", "--multirun"} & set(rest):
        raise InputError("--multirun", None, "a new sweep is compared with one earlier", "Retune them one by one")
    from sweeper.results.stored import StoredSweep
    from sweeper.run.retuning import check_options, known_families, refuse_unstored

    asked = check_options(parse_words([word for word in rest if word.startswith("confirm.")]))

    old = StoredSweep(_home(given.old))
    refuse_unstored(old)
    rest = [word for word in rest if not word.startswith("confirm.")]
    typed = typed_keys(rest)
    like_old = [] if "schedule" in typed else [f"schedule=[{','.join(known_families(old))}]"]
    return _each([*like_old, *rest], lambda config: _retune(config, old, (typed, asked), for_programs=given.json))


def _retune(config: Any, old: StoredSweep, asked: tuple[Sequence[str], ConfirmSpec], *, for_programs: bool) -> int:
    """Search, confirm, and print what the old settings are worth."""
    from sweeper.results.retune import exit_code
    from sweeper.run import retuning
    from sweeper.spec.composing import build_subject
    from sweeper.views import conclusion, retuned

    (typed, confirm), composed = asked, _finish(config)
    with redirect_stdout(sys.stderr) if for_programs else nullcontext():
        new = retuning.inherited(old, composed, typed)
        subject = build_subject(new.nodes, new.label)
        planned = retuning.plan(old, new, subject)
        print("\n".join(retuned.plan_lines(planned)), flush=True)
        if confirm.dry:
            return 0
        code, outcome = _trained(lambda: retuned.train(planned, subject, confirm, root=SWEEPS))
    if outcome is None or code or outcome.stopped is not None:
        if outcome is not None:
            conclusion.show(outcome)
        return code
    sweep, found = retuned.conclude(outcome.home, planned, confirm)
    if for_programs:
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        retuned.show(found, sweep)
    return exit_code(found, retuned.verdict_of(sweep, found)) if confirm.exit == "verdict" else 0


def _search_again(sweep: StoredSweep, asked: ConfirmSpec, *, for_programs: bool) -> int:
    """Make new whole searches, and print the verdict on families."""
    from sweeper.results.words import exit_code
    from sweeper.run import searching
    from sweeper.run.restoring import subject_nodes
    from sweeper.spec.composing import build_subject
    from sweeper.text.columns import write_text
    from sweeper.views import answer, confirmed_families

    with redirect_stdout(sys.stderr) if for_programs else nullcontext():
        searches = searching.plan(sweep, asked)
        write_text(confirmed_families.cost_lines(searches.cost()))
        if asked.dry:
            return 0
        subject = build_subject(subject_nodes(sweep, "confirm(task)"))
        code, _ = _trained(lambda: searching.search_again(searches, subject))
    verdict = sweep.refresh().family_verdict_of(asked.seed)
    if verdict is None:
        return code
    if for_programs:
        print(json.dumps(verdict, indent=2, allow_nan=False))
    else:
        answer.show(sweep, verdict)
    return code or (exit_code(verdict) if asked.exit == "verdict" else 0)


def rerun(words: Sequence[str]) -> int:
    """Train a stored trial again and compare every value. Returns 1 if one differs."""
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
    _announce()
    from sweeper.results.stored import StoredSweep
    from sweeper.run import rerun
    from sweeper.run.restoring import subject_nodes
    from sweeper.spec.composing import build_subject

    sweep = StoredSweep(_home(asked.name))
    sweep.record(asked.trial)  # refuses a wrong name before the data are loaded
    subject = build_subject(subject_nodes(sweep, 'rerun("cosine:17", task)'))
    result = rerun.rerun_trial(sweep, asked.trial, subject, asked.weights)
    print("\n".join(rerun.report_lines(result)))
    return 0 if result.same else 1


def retry(words: Sequence[str]) -> int:
    """Train the failed trials of a sweep again. Returns 1 if one fails again."""
    asked = _parse(
        "retry",
        "Train the trials again that failed and were given up, with the same hyperparameters and seeds, and no others. "
        "Their cause must be fixed first.",
        words,
    )
    _announce()
    from sweeper.results.stored import StoredSweep
    from sweeper.run.restoring import subject_nodes
    from sweeper.run.retrying import retry
    from sweeper.spec.composing import build_subject
    from sweeper.tracking.mlflow.tracker import MLflow
    from sweeper.views import conclusion

    sweep = StoredSweep(_home(asked.name))
    if not sweep.to_retry:
        print(f"No trial of {sweep.name} has to be trained again.")
        return 0
    subject = build_subject(subject_nodes(sweep, "retry(task)"))
    tracker = MLflow.stored(sweep.home.spool)
    code = _train(lambda: retry(sweep, subject, tracker, conclusion.conclude))
    return code or int(bool(sweep.refresh().given_up))


def export(words: Sequence[str]) -> int:
    """Print the schedule of a trial for the user's own code, or write it to a file."""
    asked = _parse(
        "export",
        "Print the schedule of a trial for your own training code (docs/guide/export.md).",
        words,
        ("--to", {"required": True, "metavar": "TARGET", "help": "python, torch, lightning, huggingface, timm, keras, "
            "optax, csv, json or yaml"}),
        ("--trial", {"metavar": "cosine:17", "help": "family (or study) and number (default: the winner on fresh "
            "seeds, else the leader there, else the lowest of the search)"}),
        ("--steps", {"type": int, "metavar": "N", "help": "updates of the run (default: those of the sweep)"}),
        ("--out", {"metavar": "FILE", "help": "write it there"}),
    )  # fmt: skip
    from sweeper.export.exporting import check_out, export
    from sweeper.results.stored import StoredSweep

    path = check_out(asked.out)
    exported = export(StoredSweep(_home(asked.name)), asked.to, asked.trial, asked.steps)
    if path is None:
        print(exported.text, end="")
    else:
        path.write_text(exported.text, encoding="utf-8")
    where = "" if path is None else f", written to {path}"
    print(f"{exported.chosen.name}: {exported.chosen.words}{where}", file=sys.stderr)
    return 0


def ui(words: Sequence[str]) -> int:
    """Serve the MLflow UI and print the address of the sweep's page."""
    from sweeper.tracking.mlflow import view

    asked = _parse("ui", "Open a sweep in the MLflow UI.", words, ("--port", {"type": int, "default": 5000}))
    return view.ui(_home(asked.name).spool, asked.port)


def sync(words: Sequence[str]) -> int:
    """Send what MLflow does not have yet."""
    from sweeper.results.stored import StoredSweep
    from sweeper.spec.locking import refuse_other_machine
    from sweeper.tracking.mlflow import sender
    from sweeper.tracking.spool import find_loss, publish_again

    sweep = StoredSweep(_home(_parse("sync", "Send to MLflow what could not be sent before.", words).name))
    refuse_other_machine(sweep.home)  # which sends, too
    publish_again(sweep.home.spool, sweep.round)
    code = sender.sync(sweep.home.spool)
    if loss := find_loss(sweep.home.spool, sweep.round):
        print(loss.text, file=sys.stderr)
    return code


def unlock(words: Sequence[str]) -> int:
    """Let this machine train a sweep that another machine left."""
    from sweeper.spec import locking

    about = (
        "Let this machine train a sweep that another machine trained and did not release, because it crashed. First "
        "make sure that its process has ended: two machines would damage the sweep."
    )
    home = _home(_parse("unlock", about, words).name)
    owner = locking.unlock(home)
    if owner is None:
        print(f"{home.name} is not locked.")
    else:
        print(f"{home.name} is unlocked. It was locked by {owner.machine.host} (process {owner.pid}).")
    return 0


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


VERBS = {
    "sweep": sweep,
    "confirm": confirm,
    "final": final,
    "retune": retune,
    "preview": preview,
    "range": find_lr,
    "plan": plan,
    "status": status,
    "report": report,
    "rerun": rerun,
    "retry": retry,
    "export": export,
    "ui": ui,
    "sync": sync,
    "unlock": unlock,
}

if __name__ == "__main__":
    sys.exit(main())
