"""`python -m zorba_ray.report` has moved: this room opens no door to one above it."""

import sys

sys.exit("zorba_ray: the command is  python -m zorba_ray report RUN  or  zorba-ray report RUN")
