"""Markdown tables, so that a result can go into the README as it was printed."""


def header(*columns: str) -> str:
    return row(*columns) + "\n|" + "---|" * len(columns)


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
