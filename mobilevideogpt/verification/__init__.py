"""The pre-flight checklist, the report of the clip check, and near-duplicates across splits."""
