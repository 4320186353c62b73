// `npm run chart`: the chart as a package in dist/, ready for `helm install`.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { helm, runToEnd } from "../peers/index.ts";

const ROOT = join(import.meta.dirname, "../..");
const INTO = join(ROOT, "dist");

const state = await helm.prepare((line) => console.error(line));
if (!state.available) {
  console.error(state.reason);
  process.exit(1);
}
mkdirSync(INTO, { recursive: true });
const args = ["package", join(ROOT, "charts/sluice"), "--destination", INTO];
const { code, output } = await runToEnd({ command: state.program, args });
if (code !== 0) {
  console.error(output.trim());
  process.exit(1);
}
const [, file = ""] = /saved it to: (.+)$/mu.exec(output) ?? [];
console.log(file);
