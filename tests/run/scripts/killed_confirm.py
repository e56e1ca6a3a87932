"""Confirm a sweep of the quadratic, and kill this process after a number of rounds: FOLDER ROUNDS OPTIONS-AS-JSON."""

import json
import sys

from killing import kill_after

import sweeper
from sweeper.tasks import Supervised
from sweeper.tasks.quadratic import Point, Quadratic

folder, rounds, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
kill_after(rounds)
sweeper.load(folder).confirm(Supervised(Quadratic(), Point), **options)
