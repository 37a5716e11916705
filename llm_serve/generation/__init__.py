"""One request to bytes: the job, its execution, its rendering. Runs in the replica."""
