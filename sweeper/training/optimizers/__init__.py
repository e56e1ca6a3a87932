"""Optimizers as a schedule needs them where torch has none, and what some want of a trainer beside step()."""
