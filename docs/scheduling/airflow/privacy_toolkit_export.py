"""Nightly access packages as an Airflow 3 DAG: it calls the command and does nothing else.

Requests, packages and state folder have to be on a disk of the worker that runs it: give it a queue of its own where
there are several. Airflow 2 imports ``DAG`` from ``airflow`` and ``BashOperator`` from ``airflow.operators.bash``.
"""

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

SETTINGS = {
    "PRIVACY_TOOLKIT_CONFIG": "/etc/privacy-toolkit/privacy-toolkit.toml",
    "PRIVACY_TOOLKIT_STATE": "/var/lib/privacy-toolkit",
}

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
    export = BashOperator(
        task_id="export",
        bash_command=(
            "/opt/privacy-toolkit/bin/privacy-toolkit export /srv/privacy-toolkit/requests.csv"
            " --out /srv/privacy-toolkit/packages --new-only --keep-days 30 --no-input --json"
        ),
        env=SETTINGS,
        append_env=True,
        do_xcom_push=False,  # what is printed names folders of the worker
        execution_timeout=timedelta(hours=6),
    )
    due = BashOperator(
        task_id="due",
        bash_command="/opt/privacy-toolkit/bin/privacy-toolkit due --days 7 --json",
        env=SETTINGS,
        append_env=True,
        do_xcom_push=False,
        trigger_rule="all_done",  # what is overdue is said above all when the export failed
    )
    export >> due
