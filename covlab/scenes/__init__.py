"""What is simulated: arrays, channel, codes and sources, and the batches of scenes drawn from them."""
