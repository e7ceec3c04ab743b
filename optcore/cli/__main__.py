"""``python -m optcore.cli``."""

from optcore.cli import main

raise SystemExit(main())
