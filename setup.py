"""The distribution: one package set, with an extra for each part, so that an edge box installs only the agent."""

from pathlib import Path

from setuptools import find_packages, setup

AGENT = [
    "fastavro>=1.10,<2",
    "msgspec>=0.19,<1",
    "prometheus-client>=0.21,<1",
    "pyserial>=3.5,<4",
    "stamina>=24.3",
    "structlog>=24.4",
    "websockets>=14,<17",
    "sdnotify>=0.3.2,<1",
]
MASTER = [
    "alembic>=1.14,<2",
    "httpx>=0.27,<1",
    "jsonschema>=4.23,<5",
    "litestar>=2.25,<3",
    "SQLAlchemy>=2.0.36,<3",
    "uvicorn>=0.32,<1",
]
PIPELINES = [
    "apache-beam==2.77.0",
    "ddsketch>=3.0.1,<4",
    "numpy>=1.26,<3",
    "polars>=1.20,<2",
    "pyarrow>=16,<26",
    "pyruhvro>=0.2,<1",
    "rich>=13.9,<16",
    "SQLAlchemy>=2.0.36,<3",
    "alembic>=1.14,<2",
    "xxhash>=3.5,<4",
]
TESTS = [
    "avro>=1.12,<2",
    "hypothesis>=6.120,<7",
    "pytest>=8.3,<10",
    "pytest-randomly>=3.16,<5",
    "pytest-timeout>=2.3,<3",
    "pytest-xdist>=3.6,<4",
    "trustme>=1.2,<2",
]
LINT = ["mypy>=1.13,<3", "ruff>=0.8,<1", "types-jsonschema>=4.23,<5"]
#: To measure and to draw what was measured; crc32c is what kafka-python is fast with, when it is measured beside ours.
BENCH = ["crc32c>=2.7,<3", "matplotlib>=3.9,<4"]

PACKAGES = (
    "schemas",
    "settings",
    "telemetry",
    "brokers",
    "gateway_agent",
    "master",
    "transforms",
    "storage",
    "pipelines",
    "iotcloud",
)


def plugin_extras() -> dict[str, list[str]]:
    """An extra for every plugin folder that lists what it needs in a requirements.txt of its own."""
    here = Path(__file__).parent
    files = [
        *here.glob("brokers/*/requirements.txt"),
        *here.glob("gateway_agent/drivers/*/requirements.txt"),
        *here.glob("storage/*/requirements.txt"),
    ]
    return {
        file.parent.name: [line for line in file.read_text().split("\n") if line and not line.startswith("#")]
        for file in sorted(files)
    }


setup(
    name="iotcloud",
    version="0.1.0",
    description="From devices to cloud processing and back: gateways, brokers, Beam pipelines, commands, storage.",
    python_requires=">=3.11",
    packages=find_packages(include=[name for package in PACKAGES for name in (package, f"{package}.*")]),
    package_data={"": ["*.avsc", "*.toml", "*.md", "py.typed", "requirements.txt", "*.html", "*.js", "*.css", "*.mako", "*.ini"]},
    install_requires=AGENT,
    extras_require={
        **plugin_extras(),
        "agent": AGENT,
        "master": MASTER,
        "pipelines": PIPELINES,
        "tests": TESTS,
        "lint": LINT,
        "bench": BENCH,
        "all": MASTER + PIPELINES,
        "dev": MASTER + PIPELINES + TESTS + LINT + BENCH + sorted({line for extra in plugin_extras().values() for line in extra}),
    },
    entry_points={"console_scripts": ["iotcloud = iotcloud.__main__:main"]},
)
