"""`python -m zorba_ray.allocate`, see `zorba_ray.commands.allocate`."""

import sys

from zorba_ray.commands.door import through

if __name__ == "__main__":
    sys.exit(through("allocate"))
