"""Take a trained model out: an entry of the registry for each format that others open."""
