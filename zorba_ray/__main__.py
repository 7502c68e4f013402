"""`python -m zorba_ray COMMAND …`, see `zorba_ray.commands.main`."""

import sys

from zorba_ray.commands.door import through

if __name__ == "__main__":
    sys.exit(through("main", None, "python -m zorba_ray"))
