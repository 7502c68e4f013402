"""`python -m zorba_ray.study`, see `zorba_ray.commands.study`."""

import sys

from zorba_ray.commands.door import through

if __name__ == "__main__":
    sys.exit(through("study"))
