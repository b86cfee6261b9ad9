"""Screens that lie over a place: help, and the question before leaving."""
