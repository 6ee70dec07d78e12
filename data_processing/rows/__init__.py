"""From a corpus to rows of token ids: splits, packing, Arrow files, conversations."""
