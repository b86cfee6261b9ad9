"""Torch: the model, its training, evaluation, checkpoints and generation."""
