"""Snapshots in, covariance out: the networks, and the statistics they are built on."""
