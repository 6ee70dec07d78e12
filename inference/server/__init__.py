"""A trained model behind OpenAI's HTTP interface, and a page to talk to it."""
