"""This machine: processes, ports, signals, and what a worker process imports."""
