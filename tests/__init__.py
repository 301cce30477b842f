"""A regular package: as a mere folder it would lose to a `tests` that another package installs."""
