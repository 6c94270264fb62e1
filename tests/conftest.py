"""Makes the helpers of this folder importable from every test below it."""
