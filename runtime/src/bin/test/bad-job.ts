// A job that misbehaves as its first argument says, in `main` or at record 500 of its function.

import { DiscardSink, GeneratorSource, Types } from "@sluice/runtime";
import type { StreamExecutionEnvironment } from "@sluice/runtime";

export async function main(env: StreamExecutionEnvironment, args: readonly string[]): Promise<void> {
  const [what = ""] = args;
  if (what === "main-throws") throw new RangeError("no such airport");
  if (what === "main-exits") process.exit(3);
  if (what === "main-loops") for (;;);
  if (what === "main-waits") await new Promise((resolve) => setTimeout(resolve, 3_600_000));
  if (what === "main-prints")
    process.stdout.write(
      `${JSON.stringify({
        ours: ["SLUICE_SECRET", "SLUICE_REST_TOKEN", "AWS_SECRET_ACCESS_KEY"].map((name) => process.env[name] ?? null),
        undeclared: process.env["BAD_JOB_TOKEN"] ?? null,
        declared: env.declareEnvironment("BAD_JOB_REGION"),
        secret: env.declareEnvironment("BAD_JOB_TOKEN", { secret: true }) ?? null,
      })}\n`,
    );
  env
    .fromSource(new GeneratorSource({ count: 100_000, ratePerSecond: 2_000, generate: (i) => i, type: Types.LONG() }))
    .uid("numbers")
    .map((i) => {
      if (i === 500) {
        if (what === "throws") throw new RangeError("record 500 is not to my taste");
        if (what === "exits") process.exit(0);
        if (what === "loops") for (;;);
        if (what === "rejects") void Promise.reject(new Error("nobody caught me"));
        if (what === "fills-heap") {
          const kept: number[][] = [];
          for (;;) kept.push(Array.from({ length: 100_000 }, () => i));
        }
      }
      return i;
    }, Types.LONG())
    .name("taste")
    .sinkTo(new DiscardSink())
    .uid("sink");
}
