"""Runs on disk: folders, events, histories, the catalogue."""
