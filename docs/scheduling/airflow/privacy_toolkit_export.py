"""Nightly access packages as an Airflow 3 DAG, through the toolkit's library.

The tasks run in the toolkit's own environment, so its libraries and Airflow's never meet. Requests, packages and state
folder have to be on a disk of the worker that runs them: give it a queue of its own where there are several. Airflow 2
imports ``DAG`` from ``airflow`` and ``task`` from ``airflow.decorators``.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, task

PYTHON = "/opt/privacy-toolkit/bin/python"
CONFIG = "/etc/privacy-toolkit/privacy-toolkit.toml"
STATE = "/var/lib/privacy-toolkit"

with DAG(
    dag_id="privacy_toolkit_export",
    description="Access packages for the requests that are new",
    schedule="15 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # one run does what all missed nights would have done
    max_active_runs=1,
    default_args={"retries": 0},  # the next night goes on; trying at once again helps nobody
    tags=["privacy"],
):

    @task.external_python(
        python=PYTHON,
        expect_airflow=False,
        do_xcom_push=False,  # a run names folders of the worker
        execution_timeout=timedelta(hours=6),
    )
    def export(requests: str, packages: str, config: str, state: str) -> None:
        """Make a package for each new request; fail if anything is open, failed or refused."""
        from privacy_toolkit import ExecutionOptions, Toolkit  # noqa: PLC0415 - not there where the DAG is parsed

        planned = Toolkit(config=config, state=state).plan(
            "export", requests, out=packages, new_only=True, keep_days=30
        )
        run = planned.apply(options=ExecutionOptions(until="5h"))  # ended in order before the task is killed
        run.raise_for_status()

    @task.external_python(
        python=PYTHON,
        expect_airflow=False,
        do_xcom_push=False,
        trigger_rule="all_done",  # what is overdue is said above all when the export failed
    )
    def due(config: str, state: str) -> None:
        """Fail if a request is overdue, or a run can't be read, so that one may be."""
        from privacy_toolkit import Toolkit  # noqa: PLC0415 - as above

        found = Toolkit(config=config, state=state).due(days=7)
        if found.overdue or not found.is_complete:
            raise RuntimeError("Requests are overdue: privacy-toolkit due shows which.")

    export("/srv/privacy-toolkit/requests.csv", "/srv/privacy-toolkit/packages", CONFIG, STATE) >> due(CONFIG, STATE)
