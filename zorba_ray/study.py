"""`python -m zorba_ray.study`, see `zorba_ray.commands.study`."""

import sys
from functools import partial

from zorba_ray.commands.door import through

main = partial(through, "study")

if __name__ == "__main__":
    sys.exit(main())
