"""One file a backend (see ``declared``): whatever lies here is in the table. Nothing in it is imported."""
