"""Write the table on the guide's page on optimizers. Run it after a change to conf/optimizer.

    python scripts/optimizers.py

A row has the comment at the top of the optimizer's file, its class, its ranges, and whether its trials can be stacked.
A test fails if the page is out of date.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sweeper.training.lanes.stacked import stacking_obstacle
from sweeper.training.optimizers.spec import parse_optimizer

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "guide" / "optimizers.md"
BEGIN, END = "<!-- Made by scripts/optimizers.py from conf/optimizer. -->\n", "<!-- End of it. -->\n"
HEAD = "| `optimizer=` | what it is | class | `peak_lr` searched | `default_lr` | lanes |\n|---|---|---|---|---|---|\n"
FOR_SCHEDULES = ("peak_lr", "default_lr")


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


def page() -> str:
    """Return the page with an updated table."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = [row(path) for path in sorted((ROOT / "conf" / "optimizer").glob("*.yaml"))]
    return f"{before}{BEGIN}{HEAD}{''.join(rows)}{END}{after}"


def row(path: Path) -> str:
    """Return the row of an optimizer's file."""
    text = path.read_text(encoding="utf-8")
    node: dict[str, Any] = yaml.safe_load(text)
    about = next((line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")), "")
    config = {key: value for key, value in node.items() if key not in FOR_SCHEDULES}
    low, high = (f"{float(node['peak_lr'][end]):g}" for end in ("low", "high"))
    lanes = "yes" if stacking_obstacle(parse_optimizer(config)) is None else "no"
    cells = [f"`{path.stem}`", about, f"`{node['_target_']}`", f"{low} to {high}", f"{node['default_lr']:g}", lanes]
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    raise SystemExit(main())
