"""Corpora: where they come from, what is in them, and how they become tokens and windows."""
