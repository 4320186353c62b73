// Public module of the ledger: reading, auditing, damaging, times.

export { auditLedger, lineageOf } from "./audit.ts";
export type { LedgerAudit, LedgerExpectation, LedgerFile } from "./audit.ts";
export { Bucket } from "./bucket.ts";
export { auditTheAuditor, damageLedger, DAMAGES } from "./control.ts";
export type { Damage } from "./control.ts";
export { outageAt, recordsPerVersion } from "./timing.ts";
export type { Outage } from "./timing.ts";
