"""Training a network: the loop, the loss, the recipe, what is logged, and what is kept on disk."""
