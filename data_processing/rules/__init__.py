"""What is asked of one text, and done to it: quality, language, personal data, boilerplate, blocklists."""
