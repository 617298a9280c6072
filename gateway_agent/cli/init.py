"""Not there yet."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file")


def run(given: argparse.Namespace) -> int:
    raise NotImplementedError
