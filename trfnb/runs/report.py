"""A sweep's ``report.html``: the report notebook run by papermill, then one page of it."""

import os
import re
import secrets
import shutil
from pathlib import Path
from string import Template

from trfnb.runs.engines.local import end, launch
from trfnb.runs.gather import gather
from trfnb.runs.job import LOG, NOTEBOOK, Job
from trfnb.runs.status import State, Status, read_status, write_text

SOURCE = Path(__file__).with_name("report.ipynb")
PAGE = Path(__file__).with_name("report.html")
FOLDER = "report"
TIMEOUT = 600.0


def write_report(folder: Path | str) -> Path:
    """Write ``report.html`` of a sweep, one file that opens without a network.

    Returns:
        Its path.

    Raises:
        FileNotFoundError: the folder holds no sweep.
        ReportError: the report's notebook failed; the message says why and where to look.
    """
    folder = Path(folder)
    about = gather(folder).about
    home = folder.absolute() / FOLDER
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    token = secrets.token_hex(6)
    parameters = {"folder": str(folder.absolute())}
    Status(FOLDER, FOLDER, parameters, token=token).write(home)
    job = Job(str(home), str(SOURCE), parameters, token, str(Path.cwd()), timeout=TIMEOUT)
    process = launch(job, MPLBACKEND="agg", CUDA_VISIBLE_DEVICES="")
    try:
        process.wait()
    except BaseException:
        end(process, job.folder)
        raise
    status = read_status(home)
    if status is None or status.state is not State.DONE:
        cause = status.cause if status else "its process left no status"
        raise ReportError(
            f"The report of {folder} could not be made: {cause}. See {home / NOTEBOOK} and "
            f"{home / LOG}."
        )
    page = Template(PAGE.read_text(encoding="utf-8"))
    text = page.substitute(title=about["name"], body=page_body(home / NOTEBOOK))
    write_text(folder / "report.html", text)
    return folder / "report.html"


class ReportError(ValueError):
    """The report could not be made."""


def page_body(notebook: Path) -> str:
    """Return an executed notebook's outputs as HTML that loads nothing from anywhere."""
    os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_filename(str(notebook))
    return re.sub(r"<(script|link)\b[^>]*>(?:.*?</\1>)?", "", body, flags=re.S)
