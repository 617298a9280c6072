"""Other people's programs that read what is stored, got when a test asks for them, and run in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.servers.packages import apt, maven, pip

_HERE: Final = Path(__file__).parent


def run(script: str, folder: Path, *packages: Path) -> Any:
    """What a script prints last, as JSON, when it runs in ``folder`` with these packages before ours."""
    path = folder / "script.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, packages))},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stderr[-3000:]}"
    return json.loads(done.stdout.strip().rpartition("\n")[2])


def duckdb(statement: str, folder: Path) -> Any:
    """Rows of a statement. Its Avro extension comes from PyPI here: DuckDB's own ``INSTALL`` downloads it from elsewhere."""
    script = f"""
import json
from pathlib import Path
import duckdb
import duckdb_extension_avro
connection = duckdb.connect()
for extension in Path(duckdb_extension_avro.__file__).parent.rglob("*.duckdb_extension"):
    connection.load_extension(str(extension))
print(json.dumps(connection.sql({statement!r}).fetchall()))
"""
    return run(script, folder, pip("duckdb", _HERE / "duckdb.txt"))


#: Before what is run in Spark, and after it: a session in this process, with Hive's metastore in memory.
_SESSION: Final = """
import json
from pathlib import Path
from pyspark.sql import SparkSession
here = Path.cwd()
java = f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dderby.stream.error.file={here}/derby.log"
settings = {
    "spark.jars": JARS,
    "spark.ui.enabled": "false",
    "spark.driver.memory": "512m",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.extraJavaOptions": java,
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.warehouse.dir": f"{here}/warehouse",
    "spark.hadoop.javax.jdo.option.ConnectionURL": "jdbc:derby:memory:metastore;create=true",
}
builder = SparkSession.builder.master("local[1]").enableHiveSupport()
for name, value in settings.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
answers = []
"""
_ANSWER: Final = "\nanswers.append([list(row) for row in found.collect()])\n"


def spark(folder: Path, *, python: list[str], hive: list[str]) -> Any:
    """The rows of ``found`` after each piece of Python, and of the last statement of each Hive script."""
    apt("default-jre-headless", program="java")
    jars = ",".join(map(str, maven("spark-avro", _HERE / "pom.xml").glob("*.jar")))
    pieces = [_SESSION.replace("JARS", repr(jars)), *(piece + _ANSWER for piece in python)]
    for script in hive:
        statements = [statement.strip() for statement in script.split(";\n")]
        pieces += [f"found = spark.sql({statement!r})\n" for statement in statements]
        pieces.append(_ANSWER)
    pieces.append("spark.stop()\nprint(json.dumps(answers))\n")
    return run("".join(pieces), folder, pip("spark", _HERE / "spark.txt"))
