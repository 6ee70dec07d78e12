"""From raw files to rows of tokens: reading, cleaning, filtering, splitting, packing. Knows no model."""
