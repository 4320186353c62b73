import { expect, test } from "@jest/globals";

import { Failure } from "@sluice/kit";
import type { CheckpointId } from "../model/index.ts";
import { PendingAnswers } from "./pending-answers.ts";

const id = (n: number): CheckpointId => n as CheckpointId;
const failure = (message: string): Failure => new Failure("CHECKPOINT_EXPIRED", { retry: "backoff", message });
const location = "file:///savepoints/1";

/** What became of each who asked: a checkpoint, a location, a message; "-" while nothing did. */
async function answers(asked: readonly Promise<unknown>[]): Promise<string[]> {
  const seen = asked.map(() => "-");
  asked.forEach((one, at) => {
    one.then(
      (value) => (seen[at] = JSON.stringify(value)),
      (thrown: Failure) => (seen[at] = thrown.message),
    );
  });
  await new Promise((resolve) => setImmediate(resolve));
  return seen;
}

test("PE1: who asks while a checkpoint is under way gets the one after it", async () => {
  const pending = new PendingAnswers();
  const first = pending.checkpoint().taken;
  const second = pending.checkpoint().taken;
  pending.triggered(id(1));
  const late = pending.checkpoint().taken;
  pending.completed(id(1));
  expect(await answers([first, second, late])).toEqual(["1", "1", "-"]);
  pending.triggered(id(2));
  pending.completed(id(2));
  expect(await answers([late])).toEqual(["2"]);
});

test("PE2: an aborted checkpoint is told to those who asked for it, and to nobody else", async () => {
  const pending = new PendingAnswers();
  const first = pending.checkpoint().taken;
  pending.triggered(id(1));
  const second = pending.checkpoint().taken;
  pending.triggered(id(2));
  pending.aborted(id(1), failure("expired"));
  pending.aborted(id(9), failure("nobody asked for it"));
  expect(await answers([first, second])).toEqual(["expired", "-"]);
});

test("PE2: who has waited too long is refused, unless the checkpoint has begun; others wait on", async () => {
  const pending = new PendingAnswers();
  const [impatient, patient] = [pending.checkpoint(), pending.checkpoint()];
  impatient.refuse(failure("too long"));
  pending.triggered(id(1));
  patient.refuse(failure("too late"));
  pending.completed(id(1));
  expect(await answers([impatient.taken, patient.taken])).toEqual(["too long", "1"]);
});

test("PE2: a savepoint is taken or fails, each by its own token; a late answer changes nothing", async () => {
  const pending = new PendingAnswers();
  const [a, b, c] = [pending.savepoint(), pending.savepoint(), pending.savepoint()];
  pending.savepointTaken(b.token, { id: id(3), location });
  pending.savepointFailed(a.token, failure("declined"));
  pending.savepointTaken(a.token, { id: id(4), location });
  pending.savepointFailed(77, failure("nobody's"));
  expect(await answers([a.taken, b.taken, c.taken])).toEqual(["declined", JSON.stringify({ id: 3, location }), "-"]);
  pending.forgetSavepoint(c.token);
  pending.interruptAll();
  expect(await answers([c.taken])).toEqual(["-"]);
});

test("PE2: a pause refuses those who wait, and the end everybody", async () => {
  const pending = new PendingAnswers();
  const begun = pending.checkpoint().taken;
  pending.triggered(id(1));
  const waiting = pending.checkpoint().taken;
  pending.refuseWaiting(failure("restarting"));
  expect(await answers([begun, waiting])).toEqual(["-", "restarting"]);
  const { taken } = pending.savepoint();
  const other = pending.checkpoint().taken;
  pending.interruptAll();
  const interrupted = "the job is being stopped or restarted";
  expect(await answers([begun, other, taken])).toEqual([interrupted, interrupted, interrupted]);
});
