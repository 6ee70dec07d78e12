"""From a file's bytes to documents: what a file is, how it is decoded and unpacked, one reader a format."""
