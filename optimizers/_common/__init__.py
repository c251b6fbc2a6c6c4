"""Pure functions shared by three or more optimizers; private to the package."""
