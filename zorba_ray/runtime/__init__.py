"""Ray: the driver and client actors. Below this folder nothing knows that Ray exists."""
