"""The Subject Report: one image that shows users how a subject was made."""
