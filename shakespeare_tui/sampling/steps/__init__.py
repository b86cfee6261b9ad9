"""The steps of which strategies are made; each module registers its own when it is imported."""

from shakespeare_tui.sampling.steps import methods, mirostat, repetition, temperatures, truncation

__all__ = ["methods", "mirostat", "repetition", "temperatures", "truncation"]
