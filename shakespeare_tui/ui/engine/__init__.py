"""The only door from the screens to training and decoding."""
