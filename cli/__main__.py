"""`python -m cli`: what the `./aisle` launcher runs."""

from core.threads import be_patient

be_patient()  # before anything below loads numpy

from cli.app import main  # noqa: E402

main()
