"""Names of the exercises and clips of the sample. Standard library only, so that a dry run stays fast."""

EXERCISES = (
    "knee_circles",
    "opposite_arm_and_leg_lifts_on_knees",
    "pushups_on_knees",
    "squat_jump",
    "squats",
    "tricep_stretch",
)
NO_ISSUE = "no obvious issue"


def clip_names(clips_per_exercise: int = 5) -> list[str]:
    """List the paths of the clips relative to the sample's folder, ``<exercise>/<8 digits>.mp4``, in order."""
    return [
        f"{exercise}/{number * clips_per_exercise + clip + 1:08d}.mp4"
        for number, exercise in enumerate(EXERCISES)
        for clip in range(clips_per_exercise)
    ]
