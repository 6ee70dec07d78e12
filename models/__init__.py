"""One decoder-only transformer, its parts chosen by the configuration, and its form on disk.

Knows nothing of text, of training and of where checkpoints lie.
"""
