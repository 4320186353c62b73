// Two ways of giving a generation up: refused before anything was touched, or failed after its pods were started.
//
// Invariants:
//   RE1. Refused: what runs goes on. When it was stopped already (for a spec that a newer one replaced), it is started again.
//   RE2. Stalled: its pods end, what it started from stays, and the remedy names it.

import type { Draft, Finding } from "./draft.ts";
import { startOperation } from "./operation.ts";

/** The newest spec is not deployed (RE1). */
export function refuse(draft: Draft, finding: Finding): void {
  const { op, status } = draft;
  draft.stalled = finding;
  draft.record("Rejected", `${finding.reason}: ${finding.message}`);
  draft.event("Warning", finding.reason, finding.message);
  draft.clearOp();
  const wasRunning = status.deployed !== undefined && status.deployed.ended === undefined;
  if (op?.isStopped === true && op.returns !== true && wasRunning && status.deployedSpec !== undefined) {
    startOperation(draft, { kind: "Deploy", step: "Fence", from: op, returns: true });
    draft.record("Return", `generation ${draft.job.generation} is refused: the version before it is started again`);
  }
}

/** What was started ends (RE2). */
export function stall(draft: Draft, finding: Finding): void {
  const { live, op, status } = draft;
  const from = op?.savepoint ?? live?.restore.from ?? status.lastSavepoint?.path ?? status.lastCheckpoint?.path;
  const kept = from === undefined ? "" : ` The state that it started from is kept: ${from}.`;
  const message = `${finding.message}${kept} A new generation is tried again: change spec, or restartNonce alone.`;
  draft.stalled = { reason: finding.reason, message };
  draft.record("Stalled", `${finding.reason}: ${finding.message}`);
  draft.event("Warning", finding.reason, message);
  draft.setDeployed({ ended: "STALLED" });
  draft.clearOp();
}
