"""Configs: their declaration, reading, writing, editing, and what they will cost."""
