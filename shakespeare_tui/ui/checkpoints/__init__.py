"""The Checkpoints screen."""
