"""The account of a corpus: the ledger, the page, the card, and answers to questions about a document."""
