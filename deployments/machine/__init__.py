"""What `llm-serve` does to one machine: start, watch and stop Ray."""
