"""The line: the list of stages, what is checked before they run, and the command that runs them."""
