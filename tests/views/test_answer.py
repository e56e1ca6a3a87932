"""The answer: the same in every view, in one order, within the width, and true."""

import io
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import sweeper as package
from sweeper.results import words
from sweeper.results.assembling import verdict_of
from sweeper.results.chosen import Chosen, chosen
from sweeper.results.judging import Rules
from sweeper.results.tables import Criterion, families_table, rows_of
from sweeper.spec.composing import compose
from sweeper.spec.families import parse_families
from sweeper.spec.requests import request
from sweeper.text.columns import plain_text, width_of
from sweeper.types import Choice, Range, Record
from sweeper.views import answer, family_lines, settings

FOLDERS = Path(__file__).parents[1] / "golden" / "folders"
RULE = "below this line"
FOUR = {"wsd": 1.0, "cosine": 1.05, "constant": 1.06, "linear": 1.1}


def stored(place, name="finished"):
    return package.load(name, Path(shutil.copytree(FOLDERS / name, place / name)).parent)


def drawn(table, width=79, unicode=True):
    return [plain_text(line) for line in table.render(width, unicode)]


def of_verdict(confirmation):
    verdict = verdict_of(confirmation)
    return family_lines.of_verdict(verdict, [np.linspace(1, 0, 80)] * len(verdict["configurations"]))


# --- the table of a confirmation --------------------------------------------------------------------


def test_the_confirmed_table_at_80_columns(build_confirmation):
    states = {("linear", place): "diverged" for place in range(3)}
    confirmation = build_confirmation(FOUR | {"step": 1.02}, states=states, left_out={"sgdr": 1.2})
    assert drawn(of_verdict(confirmation)) == [
        "rank  family        mean        gain over constant                     LR",
        "   1  wsd:7       1.0038    0.055 (0.040 to 0.071)  ━━━━━━━━━━──●────  █▇▆▅▄▃▂▁",
        " 2-3  step:7      1.0174    0.042 (0.031 to 0.052)  ━━━━━━━──●───      █▇▆▅▄▃▂▁",
        " 3-5  cosine:7    1.0511   0.007 (-0.004 to 0.018)  ─●──               █▇▆▅▄▃▂▁",
        " 3-5  constant:7  1.0579  ── below this line it is not worth its numbers ──────",
        "",
        "   -  linear:7    1.1040  diverged on 3 of 8 seeds                     █▇▆▅▄▃▂▁",
        "   -  sgdr:3           -             not confirmed                     █▇▆▅▄▃▂▁",
    ]


CASES = {
    "winner": (FOUR, {}),
    "tie": (dict.fromkeys(FOUR, 1.0), {}),
    "no constant": ({"wsd": 1.0, "cosine": 1.2}, {}),
    "the constant first": ({"constant": 1.0, "cosine": 1.2}, {}),
    "the constant diverges": (FOUR, {"states": {("constant", place): "diverged" for place in range(4)}}),
    "failed": (FOUR, {"states": {("cosine", 2): "failed"}}),
    "long names": ({f"a_family_with_a_long_name_of_its_own_{k}": 1 + k / 20 for k in range(3)} | {"constant": 1.1}, {}),
    "one seed": (FOUR, {"seeds": 1, "rules": Rules(looks=(1,))}),
    "nothing yet": (FOUR, {"seeds": 0}),
    "one configuration": ({"wsd": 1.0}, {}),
    "exact": (FOUR, {"noise": 0.0}),
    "tiny differences": ({name: 1e-9 * value for name, value in FOUR.items()}, {"noise": 1e-11}),
    "maximized": (FOUR, {"objective": {"metric": "valid/accuracy", "direction": "maximize", "at": "last"}}),
}


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_every_verdict_keeps_to_the_width_and_cuts_no_number(build_confirmation, case, unicode):
    means, options = CASES[case]
    table = of_verdict(build_confirmation(means, **options))
    for width in (20, 40, 60, 79, 99, None):
        lines = drawn(table, width, unicode)
        assert max(map(width_of, lines)) <= (width or 200)
        assert unicode or all(line.isascii() for line in lines)
        numbers = [cell for line in lines[1:] for cell in line.split() if cell[:1].isdigit()]
        assert not any("…" in cell or cell.endswith("..") for cell in numbers if width and width >= 40)
    at_80 = drawn(table, 79, unicode)
    assert len(at_80) - at_80.count("") == 1 + len(table.lines)
    assert all(
        line.name[:4] in drawn_line for line, drawn_line in zip(table.lines, filter(None, at_80[1:]), strict=True)
    )


@pytest.mark.parametrize("case", CASES)
def test_the_constant_is_a_line_in_the_order_of_the_means(build_confirmation, case):
    means, options = CASES[case]
    table = of_verdict(build_confirmation(means, **options))
    lines = drawn(table)
    rules = [line for line in lines if "─ below" in line]
    is_compared = "constant" in means and case not in ("the constant diverges", "nothing yet")
    assert len(rules) == is_compared
    if is_compared:
        assert re.search(r"constant:7 ", rules[0])
        means_shown = [line.value[0] for line in table.lines if not line.remark]
        assert means_shown == sorted(means_shown, reverse="maximize" in str(options))


def test_a_bar_is_solid_where_the_gain_is_sure_and_has_its_mean_in_the_interval(build_confirmation):
    table = of_verdict(build_confirmation(FOUR))
    bar = drawn(table, 120)[1].split()[-2]
    gain = table.lines[0].gain
    assert bar.count("━") / 30 == pytest.approx(gain[1] / gain[2], abs=0.04)
    assert (bar.index("●") + 1) / 30 == pytest.approx(gain[0] / gain[2], abs=0.04)
    assert len(bar) == 30


# --- the table of a search --------------------------------------------------------------------------


def trial(family, number, state="complete", value=None, **params):
    return Record(
        study=family, family=family, number=number, state=state, value=value, params=params, searched=(),
        intermediate=(), steps_done=200, diverged_step=None, reason="", seconds=1.0, clock=(), seeds=(0,),
        retry_of=None, started=None, ended=None,
    )  # fmt: skip


TRIALS = [
    trial("cosine", 1, value=1.8),
    trial("wsd", 0, value=1.95),
    trial("constant", 3, value=1.9),
    trial("default_lr", 0, value=3.0),
    trial("step", 0, "diverged"),
    trial("step", 1, "pruned", 0.1),
]


def of_search(records, direction="minimize"):
    rows = rows_of(families_table(records, direction=direction))
    return family_lines.of_search(rows, Criterion("valid/loss", direction), [np.ones(9)] * len(rows))


def test_the_table_of_a_search_at_80_columns():
    assert drawn(of_search(TRIALS)) == [
        "family        lowest                                  gain             LR",
        "cosine:1      1.8000                               +0.1000  ━━━━━━━━━  ████████",
        "constant:3    1.9000  ── below this line: no gain in the search ───────────────",
        "wsd:0         1.9500                               -0.0500             ████████",
        "default_lr:0  3.0000                               -1.1000             ████████",
        "",
        "step               -  none complete (1 pruned, 1 diverged)             ████████",
    ]


def test_where_more_is_better_the_order_turns_round():
    lines = drawn(of_search(TRIALS, "maximize"))
    assert [line.split()[0] for line in lines[1:5]] == ["default_lr:0", "wsd:0", "constant:3", "cosine:1"]
    assert "highest" in lines[0]


def test_without_a_constant_there_is_no_gain_and_bars_begin_at_the_last_family():
    lines = drawn(of_search([one for one in TRIALS if one.family in ("cosine", "wsd", "default_lr")]))
    assert "gain" not in lines[0]
    assert [line.count("━") for line in lines[1:]] == [30, 26, 0]


# --- the settings -----------------------------------------------------------------------------------


class Searched:
    """What the settings read of a sweep: here of one with the schedule files as they are."""

    is_from_python = False

    def __init__(self, nodes, steps):
        self.config = {"studies": {name: {"schedule": node} for name, node in nodes.items()}}
        self.horizon = (steps, None)


@pytest.fixture(scope="module")
def schedules():
    """The schedule files of all families."""
    return compose(request("all", {})).nodes["schedule"]


def drawn_point(family):
    """A point of the space of a family, and which of its hyperparameters are searched."""
    rng, point = np.random.default_rng(0), {}
    searched = {name: one for name, one in family.space.items() if isinstance(one, Range | Choice)}
    for name, one in family.space.items():
        if isinstance(one, Range):
            share = float(rng.random())
            value = one.low * (one.high / one.low) ** share if one.log else one.low + share * (one.high - one.low)
            one = round(value) if one.is_whole else value
        point[name] = one.options[-1] if isinstance(one, Choice) else one
    return point, tuple(searched)


def typed_of(family, nodes, steps, **others):
    """The settings of a point of the family as they are typed, and the point."""
    point, searched = drawn_point(family)
    point |= others
    record = trial(family.name, 7, value=1.0, **point)
    record = replace(record, searched=(*searched, *others))
    return settings.settings_of(Searched(nodes, steps), Chosen(record, f"{family.name}:7", "named", "as named")), point


def test_the_settings_of_every_family_are_overrides_that_make_its_lr(schedules):
    """As many digits as that needs, and no more: a third of a run is not cut to 0.3333."""
    longest = 0
    for family in parse_families(schedules):
        for steps in (50, 20_000):
            typed, point = typed_of(family, schedules, steps)
            values = dict(word.split("=", 1) for word in shlex.split(" ".join(typed.words)))
            assert values.pop("schedule") == family.name
            given = {key.removeprefix(f"schedule.{family.name}."): yaml.safe_load(text) for key, text in values.items()}
            node = {**schedules[family.name], **given}
            (again,) = parse_families({family.name: node})
            assert {key: again.space[key] for key in given} == given
            if family.controller is None:
                fixed = {key: given.get(key, value) for key, value in point.items()}
                lr_S, exact_S = package.lr_trace(again, fixed, steps), package.lr_trace(family, point, steps)
                assert np.abs(lr_S - exact_S).max() <= settings.EQUAL * exact_S.max(), family.name
            longest = max(longest, *(len(text) for text in values.values()))
    assert longest <= 12


def test_hyperparameters_of_optimizer_and_model_keep_their_keys(schedules):
    (constant,) = (family for family in parse_families(schedules) if family.name == "constant")
    typed, _ = typed_of(constant, schedules, 100, **{"optimizer.momentum": 0.912345, "model.norm": None})
    assert typed.words[-2:] == ("optimizer.momentum=0.9123", "model.norm=null")


def test_a_sweep_of_python_names_the_call(tmp_path):
    sweep = stored(tmp_path, "python")
    text = str(sweep)
    name = chosen(sweep).name
    assert f'sweep.lr("{name}") returns the LR of each update.' in text
    assert "schedule=" not in text.replace("'schedule=[", "")


def test_overrides_can_be_pasted_into_a_shell():
    typed = settings.Settings("Settings:", ("schedule=x", "schedule.x.peak_lr=0.1", "'schedule.x.ends=[a,b]'"))
    for width in (30, 50, 79):
        lines = [plain_text(line) for line in typed.render(width)][1:]
        assert max(map(len, lines)) <= width
        assert tuple(shlex.split(" ".join(line.removesuffix("\\") for line in lines))) == (
            "schedule=x", "schedule.x.peak_lr=0.1", "schedule.x.ends=[a,b]"
        )  # fmt: skip
        assert [line.endswith("\\") for line in lines] == [True] * (len(lines) - 1) + [False]


# --- the whole answer -------------------------------------------------------------------------------


ORDER = ("is the lowest in the search", "To confirm it on fresh seeds", "Settings of", "family ", RULE, "All columns: ")


@pytest.mark.parametrize("view", ["print", "status", "notebook"])
def test_every_view_shows_the_parts_in_one_order(tmp_path, sweeper, monkeypatch, view):
    sweep = stored(tmp_path / "sweeps")
    monkeypatch.chdir(tmp_path)
    said = {"print": lambda: str(sweep), "status": lambda: sweeper("status")[1], "notebook": sweep._repr_html_}[view]()
    order = [part for part in ORDER if view != "notebook" or part != "All columns: "]
    places = [said.index(">family<" if view == "notebook" and part == "family " else part) for part in order]
    assert places == sorted(places)
    assert "stable LR" not in said.partition("<details>")[0], "no legend of a hidden column"
    assert "\n" not in repr(sweep)


def test_status_prints_what_print_shows_and_all_columns_are_one_flag_away(tmp_path, sweeper, monkeypatch):
    sweep = stored(tmp_path / "sweeps")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "101")
    assert sweeper("status")[1].split() == str(sweep).split()
    code, out, _ = sweeper("status", "--columns", "all")
    assert code == 0
    assert out.startswith(sweeper("status")[1])
    assert "stable LR: the largest peak LR" in out
    assert "to target: the share" in out


@pytest.mark.parametrize(
    "given", [("--columns", "few"), ("--columns", "all", "--json"), ("--watch", "--columns", "all")]
)
def test_wrong_columns_are_one_line(tmp_path, sweeper, monkeypatch, check_form, given):
    stored(tmp_path / "sweeps")
    monkeypatch.chdir(tmp_path)
    code, out, err = sweeper("status", *given)
    assert (code, out) == (2, "")
    check_form(err.removeprefix("sweeper: ").strip())


def test_a_stopped_sweep_says_how_much_is_left(tmp_path):
    assert re.search(r"This sweep is not finished: \d+ of \d+ trials have ended\..* The same command resumes it\.",
                     " ".join(str(stored(tmp_path, "stopped")).split()))  # fmt: skip


def test_a_verdict_comes_first_and_its_leader_is_what_is_used(tmp_path, build_confirmation):
    sweep = stored(tmp_path)
    names = {record.family: record for record in sweep.records if record.state == "complete"}
    verdict = verdict_of(build_confirmation({"constant": 1.1, "linear": 1.0}))
    for row in verdict["configurations"]:
        row["params"] = json.loads(json.dumps(dict(names[row["family"]].params)))
    verdict["sentence"] = words.sentence(verdict)
    (sweep.home.path / "confirm.json").write_text(json.dumps(verdict))
    sweep.home.write({**sweep.config, "confirmations": {"0": {}}})
    text = str(sweep.refresh())
    assert text.startswith("linear trial 7 is the best of the 2 configurations confirmed")
    assert f"Settings of linear:{names['linear'].number}, the winner on fresh seeds:" in text
    assert "To confirm it" not in text
    assert RULE in text


def test_no_text_of_a_sweep_reaches_the_terminal_with_escapes(tmp_path):
    shown = answer.Answer(["\x1b[31ma"], ("", ""), None, "h", None, ["\x1b[1mb"], ["\x1b[2Jc"], "")
    assert [plain_text(line) for line in shown.render()] == ["a", "b", "c"]


def test_a_pipe_gets_plain_text(tmp_path):
    answer.show(stored(tmp_path), out=(out := io.StringIO()))
    assert "\x1b" not in out.getvalue()
