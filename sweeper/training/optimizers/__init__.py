"""Optimizers: configuration, parameter groups, and those that torch lacks or has in a form no schedule can use."""
