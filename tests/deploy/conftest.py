"""What the tests of deploy/ share: the helpers of tests/sdk, and programs of Kubernetes."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "sdk"))
