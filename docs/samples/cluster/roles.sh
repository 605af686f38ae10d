#!/bin/sh
# Run once by the image of PostgreSQL, when it makes the database: the role that workers connect as.
set -eu
password=$(cat "${STATE_PASSWORD_FILE:-/run/secrets/state-password}")
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=password="$password" \
  --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE toolkit LOGIN PASSWORD :'password';
SQL
