"""What lessons do that belongs to no other room, by subject."""
