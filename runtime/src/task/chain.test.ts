// What leaves a chain when an operator in it throws.

import { describe, expect, test } from "@jest/globals";

import { AssertionError, Failure } from "@sluice/kit";
import { attributeTo, linkTo } from "./chain.ts";

const SUM = { name: "running sum", uid: "sum" };

describe("CH2: every failure names the operator in which it happened", () => {
  const mismatch = (): Failure =>
    new Failure("TYPE_MISMATCH", { retry: "never", message: "field f1 must be LONG", remedy: "correct it" });
  const denied = (): Failure => new Failure("STORAGE_DENIED", { retry: "never", message: "cannot create /x" });

  test.each([
    [
      "what user code threw",
      () => new RangeError("no"),
      'USER_FUNCTION_FAILED: operator "running sum" (uid sum): RangeError: no',
    ],
    ["what is no error", () => "no", 'USER_FUNCTION_FAILED: operator "running sum" (uid sum): no'],
    [
      "a codec that knows the field only",
      mismatch,
      'TYPE_MISMATCH: operator "running sum" (uid sum): field f1 must be LONG',
    ],
    ["a failure that says where by itself", denied, "STORAGE_DENIED: cannot create /x"],
  ])("%s", (_, make, expected) => {
    const failure = attributeTo(SUM)(make()) as Failure;
    expect(`${failure.code}: ${failure.message}`).toBe(expected);
  });

  test("once: an operator before it adds nothing, and stack and remedy stay", () => {
    const thrown = mismatch();
    const operator = {
      open() {},
      close() {},
      processElement() {
        throw attributeTo(SUM)(thrown);
      },
    };
    const link = linkTo(operator, attributeTo({ name: "before", uid: "before" }));
    let caught: unknown;
    try {
      link.collect(1);
    } catch (error) {
      caught = error;
    }
    const frames = thrown.stack?.split("\n").slice(1);
    expect(caught).toMatchObject({
      message: 'operator "running sum" (uid sum): field f1 must be LONG',
      remedy: "correct it",
    });
    expect((caught as Failure).stack?.split("\n").slice(1)).toEqual(frames);
  });

  test("a broken assertion passes as it is", () => {
    const bug = new AssertionError("X1: never");
    expect(attributeTo(SUM)(bug)).toBe(bug);
  });
});
