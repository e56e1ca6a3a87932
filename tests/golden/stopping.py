"""Run the command line and interrupt it in the middle of a round: python stopping.py ROUNDS [word ...].

The signal is sent in the first forward pass after ROUNDS committed rounds, so every run stops at the same place.
"""

import runpy
import signal
import sys
from pathlib import Path

from torch.nn.modules.module import register_module_forward_pre_hook


def stop_after(rounds):
    """Send SIGINT once, as Ctrl-C does, after that many committed rounds."""

    def look(module, inputs):
        journals = Path("sweeps").glob("*/journal.log")
        if any(path.read_text(encoding="utf-8").count('"user_attr":{"round":') >= rounds for path in journals):
            hook.remove()
            signal.raise_signal(signal.SIGINT)

    hook = register_module_forward_pre_hook(look)


if __name__ == "__main__":
    stop_after(int(sys.argv.pop(1)))
    sys.argv[0] = "sweeper"
    runpy.run_module("sweeper", run_name="__main__")
