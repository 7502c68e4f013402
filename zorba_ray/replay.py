"""`python -m zorba_ray.replay`, see `zorba_ray.commands.replay`."""

import sys
from functools import partial

from zorba_ray.commands.door import through

main = partial(through, "replay")

if __name__ == "__main__":
    sys.exit(main())
