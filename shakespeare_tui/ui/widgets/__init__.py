"""Widgets that the places share."""
