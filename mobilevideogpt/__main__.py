"""``python -m mobilevideogpt`` is the program ``mobilevideogpt``."""

import sys

from mobilevideogpt.serving.command_line import main

if __name__ == "__main__":
    sys.exit(main())
