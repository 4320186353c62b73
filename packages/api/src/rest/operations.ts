// REST messages about operations: savepoints, checkpoints, stopping, disposal. All are asynchronous: a trigger gives the id under
// which its outcome is found.
//
// Invariants:
//   RO1. Whoever triggers may choose the id (`triggerId`, or the header Idempotency-Key): the same id again triggers nothing and
//        gives the same answer, also when another JobManager answers.

import { flag, hexId, integer, named, nullable, object, oneOf, text } from "../schema.ts";
import type { Message } from "../schema.ts";
import { FailureCause } from "./cluster.ts";

/** The header that carries an operation's id where there is no body for it. */
export const OPERATION_ID_HEADER = "idempotency-key";

const FORMAT = oneOf(["CANONICAL", "NATIVE"]);
const TRIGGER_ID = hexId("Id of this operation, chosen by who asks.");

/** POST /jobs/:jobid/savepoints */
export const SavepointTriggerRequest = object(
  {},
  {
    "target-directory": nullable(text()),
    "cancel-job": flag("Stops the job after the savepoint, without draining."),
    formatType: nullable(FORMAT),
    triggerId: nullable(TRIGGER_ID),
  },
);
export type SavepointTriggerRequest = Message<typeof SavepointTriggerRequest>;

/** POST /jobs/:jobid/stop */
export const StopRequest = object(
  {},
  {
    targetDirectory: nullable(text()),
    drain: flag("Ends the input for good: windows fire, and the job is not to be resumed."),
    formatType: nullable(FORMAT),
    triggerId: nullable(TRIGGER_ID),
  },
);
export type StopRequest = Message<typeof StopRequest>;

/** POST /jobs/:jobid/checkpoints */
export const CheckpointTriggerRequest = object(
  {},
  { checkpointType: nullable(oneOf(["CONFIGURED", "FULL", "INCREMENTAL"])), triggerId: nullable(TRIGGER_ID) },
);
export type CheckpointTriggerRequest = Message<typeof CheckpointTriggerRequest>;

/** POST /savepoint-disposal */
export const DisposalRequest = object({ "savepoint-path": text() });
export type DisposalRequest = Message<typeof DisposalRequest>;

/** POST /jobs/:jobid/unpin */
export const UnpinRequest = object(
  {},
  {
    holder: nullable(
      text("Of the pin, as GET /sluice/status names it; null or absent: all that starts of the job hold."),
    ),
    triggerId: nullable(TRIGGER_ID),
  },
);
export type UnpinRequest = Message<typeof UnpinRequest>;

/** Answer to every trigger. */
export const TriggerMessage = named("Trigger", object({ "request-id": hexId() }));
export type TriggerMessage = Message<typeof TriggerMessage>;

const STATUS = object({ id: oneOf(["IN_PROGRESS", "COMPLETED"]) });

/** GET /jobs/:jobid/savepoints/:triggerid, also of a stop. */
export const SavepointStatusMessage = object({
  status: STATUS,
  operation: nullable(object({}, { location: text("URI of the savepoint."), "failure-cause": FailureCause })),
});
export type SavepointStatusMessage = Message<typeof SavepointStatusMessage>;

/** GET /jobs/:jobid/checkpoints/:triggerid */
export const CheckpointStatusMessage = object({
  status: STATUS,
  operation: nullable(object({}, { checkpointId: integer(), "failure-cause": FailureCause })),
});
export type CheckpointStatusMessage = Message<typeof CheckpointStatusMessage>;

/** GET /savepoint-disposal/:triggerid and /jobs/:jobid/unpin/:triggerid */
export const DisposalStatusMessage = object({
  status: STATUS,
  operation: nullable(object({}, { "failure-cause": FailureCause })),
});
export type DisposalStatusMessage = Message<typeof DisposalStatusMessage>;
