"""`python -m zorba_ray.allocate`, see `zorba_ray.commands.allocate`."""

import sys

from zorba_ray.commands.allocate import main

if __name__ == "__main__":
    sys.exit(main())
