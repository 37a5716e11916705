"""What an answer is held to: JSON, a JSON Schema, an expression, a grammar.

guides         guides of requests become constraints of sequences; compiled once, kept
trial          compiles grammars in a process that may be killed over one
trial_process  that process, from the side of the server
constraint     one sequence's way through its guide, and what that leaves of the logits
"""
