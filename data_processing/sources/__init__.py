"""Where texts come from: directories, object stores, databases, public datasets, the standard library."""
