"""Experiments of single lessons, one subject per file."""
