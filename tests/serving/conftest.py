"""The fixtures that the tests of evaluation and of serving share."""

from tests.tiny_model import draw_clip, run_script, tiny

__all__ = ["draw_clip", "run_script", "tiny"]
