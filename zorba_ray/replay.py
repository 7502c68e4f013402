"""`python -m zorba_ray.replay`, see `zorba_ray.commands.replay`."""

import sys

from zorba_ray.commands.replay import main

if __name__ == "__main__":
    sys.exit(main())
