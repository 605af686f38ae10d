#!/bin/sh
# The nightly command for cron: quiet when all went well, everything there is to say when a person has to look.
# The result of the last night stays in the state folder, as nightly.json and nightly.log.
set -eu
umask 077

toolkit=${TOOLKIT:-/opt/privacy-toolkit/bin/privacy-toolkit}
requests=${REQUESTS:-/srv/privacy-toolkit/requests.csv}
packages=${PACKAGES:-/srv/privacy-toolkit/packages}
said=${PRIVACY_TOOLKIT_STATE:-/var/lib/privacy-toolkit}

code=0
"$toolkit" export "$requests" --out "$packages" --new-only --keep-days 30 --no-input --json \
  >"$said/nightly.json" 2>"$said/nightly.log" </dev/null || code=$?

if [ "$code" -ne 0 ]; then
  echo "The nightly export ended with exit code $code."
  cat "$said/nightly.log" "$said/nightly.json"
fi
exit "$code"
