// Planted bugs: switches that break one protocol rule on purpose, to prove that a test would notice.
//
// Invariants:
//   PB1. Nothing is planted unless a test harness asked for it by name at process start.
//   PB2. A planted bug is asked for on control paths only (per barrier, per append, when a state is made), never per record.

const BUGS = [
  "ack-of-another-checkpoint",
  "metadata-before-last-ack",
  "notify-before-commit-record",
  "epoch-not-checked",
  "ids-reused-after-failover",
  "channel-not-blocked",
  "late-barrier-starts-alignment",
  "delete-retained-object",
  "alignment-off",
  "sink-commits-before-record",
  "savepoint-becomes-head",
  "stop-notifies-before-record",
  "stop-forgotten-by-failover",
  "ended-run-begun-again",
  "end-settles-again",
  "failed-stop-not-restarted",
  "follower-begun-apart",
  "operation-begun-again",
  "operation-begun-before-record",
  "operation-behind-the-end",
  "operation-not-resumed",
  "cancel-not-resumed",
  "rescale-given-up-by-restart",
  "rescale-forgotten-by-failover",
  "rescale-not-deployed",
  "rescale-recorded-before-checked",
  "savepoint-answered-before-metadata",
  "savepoint-swept-when-done",
  "stop-takes-intermediate",
  "cut-misses-first-write",
  "typed-cut-misses-first-write",
  "captured-row-kept-again",
  "handed-out-value-not-encoded",
  "aborted-cut-keeps-its-bit",
  "key-groups-of-others-restored",
  "damaged-block-accepted",
  "timer-registered-twice",
  "restored-timer-not-armed",
  "time-to-live-doubled",
  "expired-rows-in-snapshot",
  "operator-acts-before-status",
  "operator-attempt-not-derived",
  "operator-may-always-create",
  "operator-skips-fence",
  "operator-stops-twice",
  "operator-stateful-late",
  "operator-name-reused",
] as const;

/** The name of a rule that a test harness may break. */
export type PlantedBug = (typeof BUGS)[number];

let active: ReadonlySet<string> = new Set();

/** Plants bugs by name for this process; an unknown name throws. Called by process shells and simulation drivers only. */
export function plantBugs(names: readonly string[]): void {
  for (const name of names) {
    if (!(BUGS as readonly string[]).includes(name))
      throw new Error(`no such planted bug: ${name}; one of ${BUGS.join(", ")}`);
  }
  active = new Set(names);
}

/** True when a harness planted this bug; always false in production. */
export function planted(bug: PlantedBug): boolean {
  return active.size !== 0 && active.has(bug);
}
