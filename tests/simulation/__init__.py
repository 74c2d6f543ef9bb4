"""The engine in virtual time: real committer, worker, upkeep and SQLite store; simulated receivers, faults and deaths."""
