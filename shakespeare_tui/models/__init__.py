"""The models, and their parameters counted."""
