"""`python -m zorba_ray.run`, see `zorba_ray.commands.run`."""

import sys
from functools import partial

from zorba_ray.commands.door import through

main = partial(through, "run")

if __name__ == "__main__":
    sys.exit(main())
