"""`python -m zorba_ray.config` prints the default config, every key explained; configs/default.yaml is its output."""

from zorba_ray.config.load import to_yaml
from zorba_ray.methods import kind_of

HEADER = """\
# The embedded default run, every key spelled out. Written by `python -m zorba_ray.config > configs/default.yaml`;
# a config of your own needs only the keys that differ, in any order.

"""

if __name__ == "__main__":
    print(HEADER + to_yaml(kind_of("")(), explained=True), end="")
