"""Grammars of calls, from the schemas of functions."""
