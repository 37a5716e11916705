"""What we change in Ray, each change in a file that names the version."""
