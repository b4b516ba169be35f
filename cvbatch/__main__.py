"""`python -m cvbatch`."""

import sys

from cvbatch.cli import main

sys.exit(main())
