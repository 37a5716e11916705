"""`/v1/responses`: what a body may hold, what its conversation and its tools may be, and what is
answered."""
