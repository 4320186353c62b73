// Parameters and environment of a job: declared in main, frozen in the plan, seen by functions.

import { describe, expect, test } from "@jest/globals";

import { isFailure } from "@sluice/kit";
import {
  type EnvironmentOptions,
  GeneratorSource,
  type JobMain,
  type ParameterDeclarations,
  Parameters,
  RichMapFunction,
  type RuntimeContext,
  type StreamExecutionEnvironment,
  Types,
} from "../../src/index.ts";
import { buildGraph } from "../../src/datastream/index.ts";
import { buildPlan } from "../../src/graph/index.ts";
import { ArraySink, Slots, type SlotsOptions } from "../support/slots.ts";

const DECLARED = {
  keys: Parameters.int({ default: 10, min: 1, help: "Number of keys." }),
  output: Parameters.string({ help: "Where results go." }),
  every: Parameters.durationMs({ default: 1_000 }),
  factor: Parameters.number({ default: 0.5 }),
  verbose: Parameters.boolean(),
  mode: Parameters.oneOf(["fast", "exact"], { default: "exact" }),
  limit: Parameters.optional(Parameters.int()),
} satisfies ParameterDeclarations;

async function planOf(
  declare: (env: StreamExecutionEnvironment) => void,
  options: SlotsOptions = {},
): Promise<ReturnType<typeof buildPlan>> {
  const main: JobMain = (env) => {
    declare(env);
    env
      .fromSource(new GeneratorSource({ count: 1, generate: (i) => i, type: Types.LONG() }))
      .uid("n")
      .print();
  };
  const graph = await buildGraph({
    job: main,
    arguments: options.arguments ?? [],
    configuration: {},
    jobName: "job",
    readEnvironment: (name) => options.environment?.[name],
  });
  return buildPlan(graph, { bundleHash: "" });
}

async function refusal(work: Promise<unknown>): Promise<readonly [message: string, remedy: string]> {
  try {
    await work;
  } catch (thrown) {
    if (isFailure(thrown) && thrown.code === "CONFIG_INVALID") return [thrown.message, thrown.remedy];
    throw thrown;
  }
  return ["accepted", ""];
}

describe("parameters", () => {
  test("JP2: values have their types, from the command line or by default, and are in the plan", async () => {
    let seen: unknown;
    const args = ["--output", "out dir", "--keys=7", "--verbose", "--every", "2 s", "--mode", "fast"];
    const plan = await planOf((env) => void (seen = env.declareParameters(DECLARED)), { arguments: args });
    const values = { keys: 7, output: "out dir", every: 2_000, factor: 0.5, verbose: true, mode: "fast" };
    expect(seen).toEqual({ ...values, limit: undefined });
    expect([plan.parameters, plan.arguments]).toEqual([values, args]);
  });

  test("types are those of the declarations", () => {
    const check = (env: StreamExecutionEnvironment): void => {
      const { keys, mode, limit, verbose } = env.declareParameters(DECLARED);
      const typed: readonly [number, "fast" | "exact", number | undefined, boolean] = [keys, mode, limit, verbose];
      expect(typed).toBeDefined();
    };
    expect(check).toBeInstanceOf(Function);
  });

  test.each<readonly [args: readonly string[], message: string]>([
    [["--output", "x", "--kyes", "3"], 'the job has no parameter --kyes; did you mean "keys"?'],
    [["--output", "x", "stray"], 'the job takes no argument "stray": values stand behind --name'],
    [[], "parameter --output is missing"],
    [["--output"], "parameter --output needs a value"],
    [["--output", "x", "--keys", "0"], 'parameter --keys: "0" is not a whole number from 1 to 9007199254740991'],
    [["--output", "x", "--keys", ""], 'parameter --keys: "" is not a whole number from 1 to 9007199254740991'],
    [["--output", "x", "--verbose=yes"], 'parameter --verbose: "yes" is neither true nor false'],
    [["--output", "x", "--mode", "exat"], 'parameter --mode: "exat" is not one of fast, exact; did you mean "exact"?'],
    [["--output", "x", "--output", "y"], "parameter --output was given twice"],
    [["--help"], "this job was asked for its parameters"],
  ])("JP1, JP2: %j", async (args, message) => {
    const [said, remedy] = await refusal(planOf((env) => env.declareParameters(DECLARED), { arguments: args }));
    expect(said).toBe(message);
    expect(remedy).toContain("--keys (int, default 10)");
    expect(remedy).toContain("Number of keys.");
    expect(remedy).toContain("--output (string, required)");
    expect(remedy).toContain("--limit (int, optional)");
  });

  test("a job without declarations takes any arguments", async () => {
    const plan = await planOf(() => {}, { arguments: ["a", "--b"] });
    expect([plan.arguments, plan.parameters]).toEqual([["a", "--b"], undefined]);
  });
});

describe("environment", () => {
  test("DV1: values are frozen in the plan and part of its digest; DV2: secrets are not in it", async () => {
    const seen: unknown[] = [];
    const declare = (env: StreamExecutionEnvironment): void => {
      seen.push(
        env.declareEnvironment("REGION"),
        env.declareEnvironment("STAGE", { default: "test" }),
        env.declareEnvironment("NOTHING", { optional: true }),
        env.declareEnvironment("API_KEY", { secret: true }),
      );
    };
    const plan = await planOf(declare, { environment: { REGION: "eu", API_KEY: "hush", OTHER: "x" } });
    expect(seen).toEqual(["eu", "test", undefined, undefined]);
    expect(plan.environment).toEqual({
      values: { REGION: "eu", STAGE: "test" },
      secrets: [{ name: "API_KEY", optional: false }],
    });
    expect(JSON.stringify(plan)).not.toContain("hush");
    const elsewhere = await planOf(declare, { environment: { REGION: "us", API_KEY: "hush" } });
    const rotated = await planOf(declare, { environment: { REGION: "eu", API_KEY: "other" } });
    expect([elsewhere.digest === plan.digest, rotated.digest === plan.digest]).toEqual([false, true]);
  });

  test.each<readonly [name: string, options: EnvironmentOptions, message: string]>([
    ["REGION", {}, "environment variable REGION is not set"],
    ["a-b", {}, '"a-b" is no name of an environment variable'],
    ["SLUICE_SECRET", {}, "SLUICE_SECRET belongs to the processes, not to the job"],
    ["AWS_REGION", { secret: true }, "AWS_REGION belongs to the processes, not to the job"],
    ["KEY", { secret: true, default: "x" }, "the secret KEY has a default"],
  ])("%s %j is refused", async (name, options, message) => {
    expect((await refusal(planOf((env) => env.declareEnvironment(name, options))))[0]).toBe(message);
  });
});

describe("functions see what was declared", () => {
  const seen: unknown[] = [];
  class Asks extends RichMapFunction<number, number> {
    readonly #wanted: string;

    constructor(wanted: string) {
      super();
      this.#wanted = wanted;
    }

    override open(context: RuntimeContext): void {
      context.getLogger().debug("asks", { wanted: this.#wanted });
      seen.push(context.getJobParameters(), context.getEnvironment("REGION"), context.getEnvironment(this.#wanted));
    }

    override map(n: number): number {
      return n;
    }
  }
  const main =
    (wanted: string): JobMain =>
    (env) => {
      const { count } = env.declareParameters({ count: Parameters.int({ default: 1 }) });
      env.declareEnvironment("REGION");
      env.declareEnvironment("API_KEY", { secret: true });
      env.declareEnvironment("MAYBE", { secret: true, optional: true });
      env
        .fromSource(new GeneratorSource({ count, generate: (i) => i, type: Types.LONG() }))
        .uid("n")
        .map(new Asks(wanted))
        .name("asks")
        .uid("a")
        .sinkTo(new ArraySink());
    };
  const run = async (wanted: string, environment: Readonly<Record<string, string>>): Promise<void> => {
    const slots = await Slots.start(main(wanted), { arguments: ["--count", "3"], environment });
    await slots.finish();
  };

  test("parameters, values and secrets", async () => {
    await run("API_KEY", { REGION: "eu", API_KEY: "hush" });
    await run("MAYBE", { REGION: "eu", API_KEY: "hush" });
    expect(seen).toEqual([{ count: 3 }, "eu", "hush", { count: 3 }, "eu", undefined]);
  });

  test("what was not declared, or a secret that the TaskManager has not got, fails with the remedy", async () => {
    expect(await refusal(run("API_KY", { REGION: "eu", API_KEY: "hush" }))).toEqual([
      'operator "asks" (uid a) asked for environment variable API_KY, which the job does not declare; did you mean "API_KEY"?',
      'declare it in main: env.declareEnvironment("API_KY", { secret: true })',
    ]);
    expect((await refusal(run("REGION", { REGION: "eu" })))[0]).toBe(
      "the job needs the secret API_KEY, and the TaskManager's environment has no such variable",
    );
  });
});
