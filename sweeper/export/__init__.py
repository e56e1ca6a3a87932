"""A schedule in other people's code: the closed form of a trial's LR, in the form of a training library."""
