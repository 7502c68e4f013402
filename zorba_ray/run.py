"""`python -m zorba_ray.run`, see `zorba_ray.commands.run`."""

import sys

from zorba_ray.commands.door import through

if __name__ == "__main__":
    sys.exit(through("run"))
