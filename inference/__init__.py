"""Trained models answering: ids in and ids out, text in and text out, a conversation in a terminal."""
