"""Checkpoints compared: figures to sort and filter by, blind tests, recommendations."""
