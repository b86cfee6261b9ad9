"""Models that others have trained: read into this program's transformer, nothing of theirs run."""
