"""One module: its ECC server, what is known of it, and the operation of ours that is under way on it."""
