import { expect, test } from "@jest/globals";

import { AssertionError, Failure } from "@sluice/kit";
import { CoordinatorLife } from "./coordinator-life.ts";

const failed = (code: "FENCED" | "CANCELED" | "STORAGE_DENIED"): Promise<void> =>
  Promise.reject(new Failure(code, { retry: "never", message: code }));

/** What a guarded rejection leads to; `endsFirst`: the coordinator is over when it comes. */
async function guarded(task: Promise<void>, endsFirst = false): Promise<string[]> {
  const seen: string[] = [];
  const life = new CoordinatorLife({
    host: { crash: (reason) => void seen.push(`crash ${reason}`) as never },
    onFailed: ({ code }) => {
      seen.push(code);
      life.end();
    },
  });
  if (endsFirst) life.end();
  life.guard(task);
  life.guard(failed("STORAGE_DENIED"));
  await new Promise((resolve) => setImmediate(resolve));
  expect([life.isOver, life.signal.aborted]).toEqual([true, true]);
  return seen;
}

test("CS3: the first failure ends the coordinator, later ones are no news", async () =>
  expect(await guarded(failed("FENCED"))).toEqual(["FENCED"]));
test("CS3: a cancellation ends nothing", async () =>
  expect(await guarded(failed("CANCELED"))).toEqual(["STORAGE_DENIED"]));
test("CS2: nothing is told after the end", async () => expect(await guarded(failed("FENCED"), true)).toEqual([]));
test("CE1: a broken assertion ends the process, also after the end", async () =>
  expect(await guarded(Promise.reject(new AssertionError("broken")), true)).toEqual(["crash broken"]));
