"""The Ray side: the only code that imports ray."""
