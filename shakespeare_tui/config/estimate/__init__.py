"""What a config will cost and what it will see, worked out before anything is trained."""
