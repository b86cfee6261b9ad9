"""How many faults were tried; the summary of a test run says so."""

from collections import Counter

FAULTS: Counter[str] = Counter()
