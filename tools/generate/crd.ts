// Writes the CustomResourceDefinition of StreamJob, by itself for kubectl and as a template of the chart, from packages/api.
//
// Run by `npm run generate`, and by `npm run check` into an empty folder (--into DIR).

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";

import { streamJobCrd } from "@sluice/api";
import { stringify } from "yaml";

const CRD = "crds/streamjobs.sluice.dev.yaml";
const TEMPLATE = "charts/sluice/templates/crd-streamjobs.yaml";
const HEAD = "# Written by tools/generate/crd.ts from packages/api/src/streamjob; run: npm run generate\n";

const { values } = parseArgs({ options: { into: { type: "string" } } });
const root = join(import.meta.dirname, "../..");

function write(file: string, text: string): void {
  const target = join(values.into ?? root, file);
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, text);
}

// Ten levels deep, every other byte would be a space with an indentation of two.
const STYLE = { indent: 1, lineWidth: 0, indentSeq: false, aliasDuplicateObjects: false };
const yaml = stringify(streamJobCrd(), STYLE);
write(CRD, HEAD + yaml);

/** Text that Helm's templates print as it is. */
function verbatim(text: string): string {
  return text.replaceAll("{{", '{{ "{{" }}');
}

const [metadata = ""] = /^metadata:\n(?: .*\n)+/mu.exec(yaml) ?? [];
const chartMetadata = `${metadata} labels:
  {{- include "sluice.labels" . | nindent 2 }}
 {{- if .Values.crds.keep }}
 annotations:
  helm.sh/resource-policy: keep
 {{- end }}
`;
const [before = "", after = ""] = yaml.split(metadata);
write(
  TEMPLATE,
  `{{- if .Values.crds.install }}\n${HEAD}${verbatim(before)}${chartMetadata}${verbatim(after)}{{- end }}\n`,
);
