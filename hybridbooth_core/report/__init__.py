"""Images that show a user how a subject was made."""
