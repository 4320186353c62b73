// Writes docs/configuration.md from the registry of configuration options.
//
// Run by `npm run generate`, and by `npm run check` into an empty folder (--into DIR).

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";

import { JVM_ONLY_PREFIXES, NOT_IMPLEMENTED_OPTIONS, OPTION_GROUPS } from "@sluice/runtime/internal/model";
import type { ConfigOption } from "@sluice/runtime/internal/model";

const OUTPUT = "docs/configuration.md";

const HEAD = `# Configuration

<!-- Written by tools/generate/configuration.ts from runtime/src/model/configuration; run: npm run generate -->

Keys, values and meanings are Apache Flink's wherever Flink has the thing; keys that begin with \`sluice.\` are ours. They
are given on the command line (\`sluice run JOB.ts -D key=value\`) or in the job's code; code beats the command line.

- Durations: \`500 ms\`, \`10 s\`, \`5 min\`, \`1 h\`, \`PT10S\`, or a number of milliseconds.
- Memory sizes: \`64 kb\`, \`32 mb\`, \`1 gb\` (powers of 1024), or a number of bytes.
- A key that nobody knows is an error that names the nearest known one. A key of Flink that Sluice does not implement yet is
  an error that says so, except with the value that describes what Sluice does anyway.
- Keys that only concern the JVM are accepted with a warning.
- Secrets are no configuration, they come from the environment. \`AWS_ACCESS_KEY_ID\` and \`AWS_SECRET_ACCESS_KEY\` open S3 stores.
  \`SLUICE_REST_TOKEN\`, where it is set, is what every request to REST and /metrics must show (\`Authorization: Bearer TOKEN\`, except
  for \`/health\`), and what \`sluice\` shows; without it REST listens on this machine only.
`;

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}

function code(text: string): string {
  return `\`${cell(text)}\``;
}

function optionRow(option: ConfigOption<unknown>): string {
  const names = [code(option.key), ...option.aliases.map((alias) => `(${code(alias)})`)].join(" ");
  const only = option.only === undefined ? "" : ` Implemented: ${option.only.map(code).join(", ")}.`;
  return `| ${names} | ${cell(option.type.name)} | ${option.default === undefined ? "none" : code(option.default)} | ${cell(option.description)}${only} |`;
}

function page(): string {
  const lines = [HEAD];
  for (const group of OPTION_GROUPS) {
    lines.push(`## ${group.title}`, "", "Older names in brackets.", "");
    lines.push("| key | type | default | meaning |", "| --- | --- | --- | --- |", ...group.options.map(optionRow), "");
  }
  const deviating = OPTION_GROUPS.flatMap((group) => group.options).filter(
    (option) => option.flinkDefault !== undefined,
  );
  lines.push("## Defaults that differ from Flink's", "", "| key | here | Flink |", "| --- | --- | --- |");
  for (const option of deviating) {
    const here = option.default === undefined ? "none" : code(option.default);
    lines.push(`| ${code(option.key)} | ${here} | ${cell(option.flinkDefault ?? "")} |`);
  }
  lines.push(
    "",
    "## Known, not implemented yet",
    "",
    "Only the value in the second column is accepted; where there is none, the key must be left out.",
    "",
    "| key | accepted | meaning in Flink |",
    "| --- | --- | --- |",
  );
  for (const option of NOT_IMPLEMENTED_OPTIONS) {
    const names = [code(option.key), ...option.aliases.map((alias) => `(${code(alias)})`)].join(" ");
    lines.push(
      `| ${names} | ${option.default === undefined ? "" : code(option.default)} | ${cell(option.description)} |`,
    );
  }
  lines.push("", "## Without meaning here", "", "Keys that begin with one of these are accepted with a warning:", "");
  lines.push(JVM_ONLY_PREFIXES.map(code).join(", "), "");
  return lines.join("\n");
}

const { values } = parseArgs({ options: { into: { type: "string" } } });
const file = join(values.into ?? join(import.meta.dirname, "../.."), OUTPUT);
mkdirSync(dirname(file), { recursive: true });
writeFileSync(file, page());
