"""What is decided from the state: who starts, who leaves, what fits, and when."""
