"""The pre-flight checklist, the summary of the clip check, and the search for near-duplicates."""
