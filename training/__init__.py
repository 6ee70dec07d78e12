"""One Trainer for every stage that trains; the data, not the trainer, says what is learned."""
