"""`python -m zorba_ray.report`, see `zorba_ray.commands.report`."""

import sys

from zorba_ray.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
