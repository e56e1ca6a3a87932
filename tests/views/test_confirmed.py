"""The confirmed table: what it shows at which width."""

import io
import re

import pytest

from sweeper.results.assembling import verdict_of
from sweeper.results.judging import Rules
from sweeper.text.columns import plain_text, width_of
from sweeper.views import confirmed

FOUR = {"wsd": 1.0, "cosine": 1.05, "linear": 1.06, "constant": 1.1}
LONG = {f"a_family_with_a_very_long_name_of_its_own_{letter}": 1.0 + place / 20 for place, letter in enumerate("abc")}
DIVERGED = {("cosine", place): "diverged" for place in range(3)}
TESTED = {"beside": lambda family, place, value: {"test": {"test/loss": value + 0.2}}}
CASES = {
    "winner": (FOUR, TESTED),
    "tie": (dict.fromkeys(FOUR, 1.0), TESTED),
    "barred": (FOUR, {"states": DIVERGED | {("wsd", 3): "diverged"}, **TESTED}),
    "failed": (FOUR, {"states": {("cosine", 2): "failed"}}),
    "long names": (LONG, {"left_out": {name[::-1]: 2.0 for name in LONG}}),
    "one seed": (FOUR, {"seeds": 1, "rules": Rules(looks=(1,))}),
    "nothing yet": (FOUR, {"seeds": 0}),
    "one configuration": ({"wsd": 1.0}, {}),
    "exact": (FOUR, {"noise": 0.0}),
    "tiny differences": ({name: 1e-9 * value for name, value in FOUR.items()}, {"noise": 1e-11}),
    "large values": ({name: 1e7 * value for name, value in FOUR.items()}, {"noise": 1e5}),
    "maximized": (FOUR, {"objective": {"metric": "valid/accuracy", "direction": "maximize", "at": "last"}}),
}


def rendered(verdict, width=None, unicode=True):
    return [plain_text(line) for line in confirmed.render(verdict, width=width, unicode=unicode)]


def heads(lines):
    """The headings of every block."""
    return [name for line in lines if line.startswith("configuration ") for name in re.split(r"  +", line.strip())]


@pytest.mark.parametrize("width", [None, 200, 100, 80, 60])
@pytest.mark.parametrize("case", CASES)
def test_every_column_is_shown_and_no_line_is_wider_than_100_or_the_terminal(build_confirmation, case, width):
    means, options = CASES[case]
    verdict = verdict_of(build_confirmation(means, **options))
    lines = rendered(verdict, width)
    assert max(map(width_of, lines)) <= min(width or 100, 200)
    assert {column.head for column in confirmed.columns(verdict)} == {*heads(lines)}
    assert not any("nan" in line.lower().split() or "…" in line for line in lines)


def test_the_table_at_80_columns(build_confirmation):
    states = {("cosine", place): "diverged" for place in range(3)} | {("wsd", 3): "diverged"}
    verdict = verdict_of(build_confirmation(FOUR, states=states, left_out={"sgdr": 1.2}))
    assert rendered(verdict, 80)[:11] == [
        "Confirmed on fresh seeds: valid/loss, lower is better (256 trainings)",
        "configuration  rank    mean     sd  seeds      gain over constant  in sd",
        "wsd:7             1  1.0155  0.029      8  0.095 (0.070 to 0.119)    6.0",
        "cosine:7          -  1.0563  0.043      8                       -      -",
        "linear:7        2-3  1.0579  0.037      8  0.040 (0.019 to 0.060)    2.6",
        "constant:7      3-4  1.0976  0.048      8                       -      -",
        "sgdr:3            -       -      -      -                       -      -",
        "",
        "configuration  share of gain  in search  diverged  verdict",
        "wsd:7                   100%     0.9900       1/8  best",
        "cosine:7                   -     1.0400       3/8  barred",
    ]


def test_a_long_name_keeps_its_end_and_its_trial(build_confirmation):
    lines = rendered(verdict_of(build_confirmation(LONG)), 80)
    assert [line.split()[0] for line in lines[2:5]] == [f"a_family_...its_own_{letter}:7" for letter in "abc"]


def test_every_column_is_there_for_wide_views(build_confirmation):
    heads = {column.head for column in confirmed.columns(verdict_of(build_confirmation(FOUR, **TESTED)))}
    assert heads == {
        "rank", "configuration", "mean", "sd", "seeds", "gain over constant", "in sd", "share of gain", "in search",
        "test/loss", "verdict",
    }  # fmt: skip


def test_a_gain_is_beside_its_share_and_its_size_in_sd(build_confirmation):
    columns = confirmed.columns(verdict_of(build_confirmation(FOUR)))
    cells = {column.head: column.cells for column in columns}
    assert cells["configuration"] == ["wsd:7", "cosine:7", "linear:7", "constant:7"]
    assert cells["gain over constant"][3] == cells["in sd"][3] == cells["share of gain"][3] == "-"
    assert cells["share of gain"][:3] == ["100%", "49%", "42%"]
    assert all(float(cell) > 1 for cell in cells["in sd"][:3])


def test_notes_are_shown_below_the_table(build_confirmation):
    verdict = verdict_of(build_confirmation(FOUR), ["A note about the search."])
    assert rendered(verdict)[-1] == "A note about the search."


def test_a_pipe_gets_plain_text(build_confirmation):
    out, verdict = io.StringIO(), verdict_of(build_confirmation({"\x1b[31mwsd": 1.0, "cosine": 1.1}))
    confirmed.show(verdict, out=out)
    assert "\x1b" not in out.getvalue()
