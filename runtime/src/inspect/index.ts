// Public module of inspect/: snapshots as they lie in a store, read without their job.

export { describePart, diffSnapshots } from "./diff.ts";
export type { KeyDifference, KeyDifferences, StateDifference, StateFigures } from "./diff.ts";
export { keyedDescription, parseKey, readKey, readOperatorItems } from "./get.ts";
export type { KeyContent } from "./get.ts";
export { listSnapshots } from "./listing.ts";
export type { ListedSnapshot } from "./listing.ts";
export { StoredPart } from "./stored-part.ts";
export { describeState, findState, openSnapshot } from "./stored-snapshot.ts";
export type { StoredSnapshot, StoredState } from "./stored-snapshot.ts";
export { verifyFailure, verifySnapshot } from "./verify.ts";
export type { InspectProgress, VerifyOutcome } from "./verify.ts";
