"""Text to token ids and back: the vocabulary, its training, and the one rendering of a chat."""
