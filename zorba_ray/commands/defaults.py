"""`python -m zorba_ray.commands.defaults` prints the default config, explained, as in configs/default.yaml."""

from zorba_ray.config.load import to_yaml
from zorba_ray.methods import kind_of

HEADER = """\
# The default run, every key spelled out. Written by `python -m zorba_ray.commands.defaults > configs/default.yaml`;
# a config of your own needs only the keys that differ, in any order.

"""

if __name__ == "__main__":
    print(HEADER + to_yaml(kind_of("")(), explained=True), end="")
