"""Run the command line, and kill this process after a number of rounds: ROUNDS WORD..."""

import os
import signal
import sys

from sweeper.run import loop


def kill_after(rounds: int) -> None:
    """Let this process kill itself once so many rounds are committed."""
    commit, left = loop._commit, rounds

    def commit_and_count(rooms: loop.Rooms) -> None:
        nonlocal left
        left -= 1
        commit(rooms)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    loop._commit = commit_and_count


if __name__ == "__main__":
    from sweeper.__main__ import main

    kill_after(int(sys.argv[1]))
    sys.argv = ["sweeper", *sys.argv[2:]]
    sys.exit(main())
