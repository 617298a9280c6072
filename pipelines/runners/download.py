"""``python -m pipelines.runners.download``: Beam's own download of Prism; prints the path of the binary."""

from __future__ import annotations

import sys

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.prism_runner import PrismJobServer


def main() -> int:
    """Returns 0 when Beam could fetch a Prism of its own version, else 1 with the reason on stderr."""
    try:
        source = PrismJobServer(PipelineOptions([])).path_to_binary()
        path = PrismJobServer.local_bin(source, PrismJobServer.BIN_CACHE)
    except (OSError, RuntimeError, ValueError) as error:
        sys.stderr.write(f"Error: Beam could not fetch Prism: {error}\n")
        return 1
    sys.stdout.write(path + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
