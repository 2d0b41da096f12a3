"""Observe a training loop and record its calls, without changing what they do."""
