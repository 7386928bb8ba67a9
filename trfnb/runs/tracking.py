"""Logs a sweep's runs to MLflow as well (extra ``mlflow``; off unless a sweep asks for it)."""

from collections.abc import Sequence

from trfnb.runs.job import NOTEBOOK
from trfnb.runs.ledger import Ledger
from trfnb.runs.status import State, Status
from trfnb.runs.table import flat


def log_to_mlflow(address: str, name: str, statuses: Sequence[Status], ledger: Ledger) -> None:
    """Log each run with its parameters, numbers, environment and executed notebook.

    Args:
        address: tracking URI, such as ``http://host:5000`` or ``sqlite:///mlflow.db``.
        name: of the experiment.
        statuses: the runs that have ended since the sweep was called.
        ledger: of the sweep's folder.

    Raises:
        ValueError: MLflow is not installed.
    """
    try:
        import mlflow
    except ModuleNotFoundError:
        raise ValueError("`mlflow` needs MLflow: run `pip install 'trfnb[mlflow]'`.") from None
    mlflow.set_tracking_uri(address)
    mlflow.set_experiment(name)
    for status in statuses:
        numbers = {
            key: float(value)
            for key, value in flat(status.metrics).items()
            if isinstance(value, int | float)
        }
        with mlflow.start_run(run_name=status.run):
            mlflow.log_params(status.parameters)
            mlflow.log_metrics(numbers | {"seconds": status.seconds or 0.0})
            mlflow.set_tags({"state": str(status.state), "identity": status.identity})
            mlflow.set_tags({k: str(v) for k, v in status.environment.items()})
            notebook = ledger.home(status) / NOTEBOOK
            if notebook.exists():
                mlflow.log_artifact(str(notebook))
            if status.state is not State.DONE:
                mlflow.end_run("FAILED" if status.state.bad else "KILLED")
