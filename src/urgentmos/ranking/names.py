"""The names of scorings, and their titles in reports. `scorings.SCORERS` holds the functions."""

from typing import Literal

Scoring = Literal["binary", "soft", "bradley-terry", "mos"]
TITLES: dict[str, str] = {
    "binary": "votes (ECS, binary)",
    "soft": "votes (ECS, soft)",
    "bradley-terry": "strength (Bradley-Terry, logits)",
    "mos": "mean score",
}
