"""The doctor: reads a run's events and says whether training is healthy, and what to try."""

from shakespeare_tui.diagnosis.doctor import Doctor, Reading

__all__ = ["Doctor", "Reading"]
