"""Write the software bill of materials (CycloneDX): what the Debian package ships, by checksum, and what it depends on.

`python tools/sbom.py FILE`
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import sources

DEBIAN = sources.REPOSITORY / "packaging/debian"


def main() -> None:
    """Write the file named on the command line, and print its path."""
    (target,) = map(Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    write(target)
    print(target)


def write(target: Path) -> None:
    """Write the bill to `target`; the same checkout gives the same bytes."""
    argv = (
        "-m",
        "cyclonedx_py",
        "requirements",
        "--output-reproducible",
        "--of=JSON",
        f"--pyproject={DEBIAN.parents[1]}/pyproject.toml",
    )
    done = subprocess.run((sys.executable, *argv, str(DEBIAN / "vendor.txt")), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"cyclonedx_py failed: {done.stderr}")
    bill = json.loads(done.stdout)
    bill["metadata"]["component"]["version"] = sources.version()
    bill["components"] += [
        {"type": "library", "name": name, "bom-ref": f"debian-{name}", "purl": f"pkg:deb/debian/{name}"}
        for name in sources.depended_on()
    ]
    target.write_text(json.dumps(bill, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
