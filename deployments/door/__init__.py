"""The public socket, and the HAProxy that answers on it."""
