"""Prediction rows as training samples."""


def samples_of(rows):
    """Training samples with the answers of the rows."""
    return [
        {
            "exercise": row["exercise"],
            "conversations": [{"from": "human", "value": row["prompt"]}, {"from": "gpt", "value": row["reference"]}],
        }
        for row in rows
    ]
