"""`python -m zorba_ray.replay`, see `zorba_ray.commands.replay`."""

import sys

from zorba_ray.commands.door import through

if __name__ == "__main__":
    sys.exit(through("replay"))
