"""Confirm a sweep of the quadratic, and kill this process after a number of rounds: FOLDER ROUNDS OPTIONS-AS-JSON."""

import json
import os
import signal
import sys

import sweeper
from sweeper.run import loop
from sweeper.tasks import Supervised
from sweeper.tasks.quadratic import Point, Quadratic

folder, last, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
rounds, commit = 0, loop._commit


def kill_at(rooms):
    global rounds
    rounds += 1
    commit(rooms)
    if rounds == last:
        os.kill(os.getpid(), signal.SIGKILL)


loop._commit = kill_at
sweeper.load(folder).confirm(Supervised(Quadratic(), Point), **options)
