"""A trained model as files for other programs, each proven in the program that will run it. Knows no training."""
