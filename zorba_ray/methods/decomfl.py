"""DeComFL: local steps along shared directions, of which only scalars travel; who was away replays what it missed.

With one local step it is ZorBA on all blocks, by the same code.
"""

from dataclasses import replace

from zorba_ray.methods import zorba

METHOD = replace(zorba.METHOD, shared=True)
