#!/bin/sh
# The command of a job. It appends what it does to one log that all jobs of a test share, so that what really
# ran, when, and how often is known from the cluster's side alone. One line is one write of less than 4 KiB to
# a file opened for appending, which Linux keeps whole.
#
#   job.sh LOG TAG SECONDS OUTCOME
#
# LOG      the shared log
# TAG      team/key of the submission
# SECONDS  how long it runs; or a file, until which is there
# OUTCOME  ok | fail | fail-until-N (succeeds from attempt N on) | deaf (does not heed SIGTERM)
#          | child (a grandchild of its own process, in the background)
log=$1 tag=$2 seconds=$3 outcome=$4

# A stop that comes before the first line is there waits for it.
early=
if [ "$outcome" = deaf ]; then trap '' TERM; else trap 'early=yes' TERM; fi

# The name of the attempt at its cluster: the process driver's variable, or Ray's own.
name=${YARD_REMOTE_NAME:-$(printf '%s' "$RAY_JOB_CONFIG_JSON_ENV_VAR" | sed -n 's/.*"job_submission_id": *"\([^"]*\)".*/\1/p')}
attempt=${name##*-}

say() {
    now=
    # A signal to the whole group ends `date`, too.
    while [ -z "$now" ]; do now=$(date +%s%N); done
    printf '%s %s %s %s %s %s\n' "$now" "$1" "${name:-unknown}" "$tag" "$$" "$PWD" >>"$log"
}

stopped() {
    trap '' TERM # a second one changes nothing
    kill "$sleeper" 2>/dev/null
    say stopped
    exit 143
}

say start
[ "$outcome" = deaf ] || trap stopped TERM
[ -z "$early" ] || stopped
echo "hello from $tag attempt $attempt"
if [ "$outcome" = child ]; then
    # Outlives its parent unless somebody ends it.
    sh -c 'trap "" HUP; while :; do sleep 0.2; date +%s%N >>"$1"; done' beat "$log.$name.beat" &
fi
case $seconds in
    /*) while [ ! -e "$seconds" ]; do sleep 0.1; done & ;;
    *) sleep "$seconds" & ;;
esac
sleeper=$!
# A signal that is ignored does not end the wait; one that is trapped runs its trap.
wait "$sleeper"

trap '' TERM # it has ended
code=0
case $outcome in
    fail) code=3 ;;
    fail-until-*) [ "$attempt" -ge "${outcome##*-}" ] || code=3 ;;
esac
echo "bye from $tag with code $code"
say "end-$code"
exit $code
