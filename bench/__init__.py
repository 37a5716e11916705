"""Speed, as ratios against a peer in one run on one machine. See README.md beside this file."""
