"""`python -m cameleer`."""

from cameleer.cli import main

main()
