"""`python -m zorba_ray COMMAND …`, see `zorba_ray.commands.main`."""

import sys

from zorba_ray.commands.main import main

if __name__ == "__main__":
    sys.exit(main(prefix="python -m zorba_ray"))
