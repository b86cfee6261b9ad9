"""What the checkpoint room knows: figures to sort and filter by, verdicts, recommendations."""
