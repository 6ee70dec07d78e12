"""Foundations: configuration, devices, durable files, stages. Knows nothing of language models."""
