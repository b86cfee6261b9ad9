"""What is in a text: characters, words, speeches, n-gram baselines."""
