"""Tokenizers: text to ids and back; kinds.py names them, each is a class in a module of its own."""
