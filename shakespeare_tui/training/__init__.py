"""Training: the loop, optimisers, evaluation, checkpoints, sessions."""
