"""The application on Ray Serve: ingress, replicas, the director and who speaks to whom."""
