"""`python -m cli`: what the `./aisle` launcher runs."""

from cli.app import main

main()
