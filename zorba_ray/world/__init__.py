"""The simulated world: who takes part, how long it takes, who misbehaves, what is kept private. Nothing here knows Ray.

All of it is a function of config, round and reports, so the same run happens wherever its work is done."""
