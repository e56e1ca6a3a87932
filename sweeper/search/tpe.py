"""Optuna's TPE under the name that stored sweeps have: a study is found by the path of its sampler."""

from optuna.samplers import TPESampler

TPE = TPESampler
