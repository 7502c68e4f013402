"""A study: named arms on the same data, each with its own tuned learning rate, over several seeds, in one table."""
