"""`python -m zorba_ray.allocate`, see `zorba_ray.commands.allocate`."""

import sys
from functools import partial

from zorba_ray.commands.door import through

main = partial(through, "allocate")

if __name__ == "__main__":
    sys.exit(main())
