"""What several texts have in common: words, shingles, clusters of near duplicates, overlap of splits."""
