"""Ways to attach the watch to what runs a training loop: pytest, and the trainers of frameworks.

Nothing else imports them, and they import their framework only where it is used.
"""
