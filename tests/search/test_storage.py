"""The storage that keeps lists of trials gives what Optuna's own gives, whatever was done before."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from sweeper.search.journal import Journal
from sweeper.search.storage import Storage

ENDED = [TrialState.COMPLETE, TrialState.PRUNED]
STATES = [None, (TrialState.COMPLETE,), ENDED, {TrialState.WAITING}, tuple(TrialState)]
ENDS = [*ENDED, TrialState.FAIL]
DONE = st.lists(st.tuples(st.sampled_from(["new", "waiting", "run", "report", *ENDS]), st.integers(0, 7)), max_size=25)


def do(storage, study, what, place):
    """One operation, on the trial in that place where it is possible."""
    if what == "new":
        storage.create_new_trial(study)
        return
    if what == "waiting":
        storage.create_new_trial(study, create_trial(state=TrialState.WAITING))
        return
    trials = [trial for trial in storage.get_all_trials(study) if not trial.state.is_finished()]
    if not trials:
        return
    trial = trials[place % len(trials)]
    if what == "report":
        storage.set_trial_intermediate_value(trial._trial_id, place, 0.5)
    elif what == "run":
        if trial.state == TrialState.WAITING:
            storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    else:
        storage.set_trial_state_values(trial._trial_id, what, [1.0] if what == TrialState.COMPLETE else None)


@settings(max_examples=100)
@given(done=DONE, asked=st.sampled_from(STATES), again=st.integers(0, 25))
def test_the_trials_are_optunas(tmp_path_factory, done, asked, again):
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal.log")
    storage = Storage(journal)
    study, other = (storage.create_new_study([StudyDirection.MINIMIZE], name) for name in ("one", "other"))
    for place, (what, which) in enumerate(done):
        do(storage, other if which == 7 else study, what, which)
        if place == again:
            storage = Storage(journal)  # as after a restart
        storage.get_all_trials(study, states=asked)
    theirs = JournalStorage(journal)
    for states in STATES:
        for one in (study, other):
            assert storage.get_all_trials(one, states=states) == theirs.get_all_trials(one, states=states)


def test_what_is_given_away_is_a_copy_or_a_list_of_its_own(tmp_path):
    storage = Storage(Journal(tmp_path / "journal.log"))
    study = storage.create_new_study([StudyDirection.MINIMIZE], "one")
    do(storage, study, "new", 0)
    kept = copy.deepcopy(storage.get_all_trials(study))
    storage.get_all_trials(study, deepcopy=False).clear()
    storage.get_all_trials(study)[0].user_attrs["x"] = 1
    assert storage.get_all_trials(study) == kept


def test_a_study_that_there_is_not(tmp_path):
    with pytest.raises(KeyError):
        Storage(Journal(tmp_path / "journal.log")).get_all_trials(3)
